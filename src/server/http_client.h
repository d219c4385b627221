// One request to a server of this machine: what `ruvltra mcp` needs to hand its messages on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "server/http.h"

namespace ruvltra {

struct HttpReply {
  int status = 0;
  std::string body;
};

// `url` is http://HOST:PORT; waits for the whole answer, at most 64 MiB. Errors: client.url (usage),
// client.unreachable, client.answer.
Result<HttpReply> http_call(std::string_view method, const std::string& url, std::string_view path,
                            std::string_view body, const std::vector<HttpHeader>& headers);

}  // namespace ruvltra
