// Who may call: API keys, hosts and origins.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct ApiKey {
  std::string tenant;
  Sha256Digest digest;  // of the key: the key itself is not kept
  bool admin = false;
};

// Lines "TENANT KEY [admin]" or "TENANT sha256:HEX [admin]"; empty ones and those with # in front are
// skipped. `source` names the text in messages, which never hold a key. Error: server.keys (usage).
Result<std::vector<ApiKey>> parse_keys(std::string_view text, std::string_view source);
ApiKey make_key(std::string_view key, std::string tenant, bool admin);

// The entry whose key it is, or null. Takes the same time whichever matches, or none.
const ApiKey* find_key(std::span<const ApiKey> keys, std::string_view key);

// Whether a Host header names this machine (127.0.0.0/8, [::1], localhost; any port), or one of `allowed`.
bool is_allowed_host(std::string_view host, std::span<const std::string> allowed);
// Whether an Origin is that of the Host itself, or one of `allowed`.
bool is_allowed_origin(std::string_view origin, std::string_view host, std::span<const std::string> allowed);

}  // namespace ruvltra
