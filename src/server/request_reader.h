// Bytes of a connection to HTTP/1.1 requests (RFC 9112), strictly: what two readers could take for different
// things is refused. Boost.Beast parses heads; what it would let pass is checked before. Chunks are read
// here: Beast 1.74 takes a bare LF in an extension, and any number of trailers.
//
// *Invariants*: how the bytes are cut into pieces changes neither the requests nor the refusal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/http.h"

namespace ruvltra {

// One request at a time. Memory is bounded by the limits.
class RequestReader {
 public:
  explicit RequestReader(const HttpLimits& limits) : limits_(limits) {}

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
  enum class State { kBetween, kHead, kBody, kChunkSize, kChunkData, kChunkEnd, kTrailers, kDone };
  Step read_head(std::string& in);
  Step read_body(std::string& in);
  // Of what is in `rest`, one thing after another; kComplete: go on.
  Step read_part(std::string_view& rest);
  Step read_chunk_size(std::string_view& rest);
  Step read_trailer(std::string_view& rest);
  Step refuse(int status, std::string_view message, std::string_view code);

  const HttpLimits limits_;
  State state_ = State::kBetween;
  size_t n_checked_ = 0;  // bytes of the head that were looked at
  uint64_t n_left_ = 0;   // bytes of the body, or of its present chunk
  size_t n_trailers_ = 0, n_trailer_bytes_ = 0;
  bool chunked_ = false;
  HttpRequest request_;
  bool keep_alive_ = false, http_1_0_ = false, wants_continue_ = false;
  HttpResponse refusal_;
};

}  // namespace ruvltra
