// Bytes of a connection to HTTP/1.1 requests (RFC 9112), strictly: what two readers could take for different
// things is refused. Boost.Beast parses; what it would let pass is checked before.
#pragma once

#include <memory>
#include <string>

#include "server/http.h"

namespace ruvltra {

// One request at a time. Memory is bounded by the limits.
class RequestReader {
 public:
  explicit RequestReader(const HttpLimits& limits);
  ~RequestReader();

  enum class Step {
    kNeedsMore,  // the rest has not come
    kHead,       // the head is complete, once per request: request() but its body
    kComplete,   // request() is whole
    kRefused,    // refusal() says why; the connection is of no more use
  };
  // Takes what it can from the front of `in`.
  Step feed(std::string& in);
  void next();  // after kComplete: the next request of the connection

  bool begun() const { return state_ != State::kBetween; }
  HttpRequest& request() { return request_; }
  bool keep_alive() const { return keep_alive_; }
  bool is_http_1_0() const { return http_1_0_; }
  bool wants_continue() const { return wants_continue_; }
  const HttpResponse& refusal() const { return refusal_; }

 private:
  enum class State { kBetween, kHead, kBody, kDone };
  struct Parser;
  Step read_head(std::string& in);
  Step read_body(std::string& in);
  Step refuse(int status, std::string_view message, std::string_view code);

  const HttpLimits limits_;
  State state_ = State::kBetween;
  std::unique_ptr<Parser> parser_;
  HttpRequest request_;
  bool keep_alive_ = false, http_1_0_ = false, wants_continue_ = false;
  HttpResponse refusal_;
};

}  // namespace ruvltra
