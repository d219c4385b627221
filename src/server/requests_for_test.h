// For tests and fuzz harnesses: a connection's bytes, in pieces, to all its requests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/request_reader.h"

namespace ruvltra {

struct ReadRequests {
  std::vector<HttpRequest> requests = {};
  std::vector<bool> keeps = {};  // whether the connection goes on after each
  int refusal = 0;               // the status, if one was refused
  std::string refused_with = {};
  size_t n_heads = 0;
  bool begun = false;  // a request was not complete at the end

  friend bool operator==(const ReadRequests& a, const ReadRequests& b) {
    if (a.requests.size() != b.requests.size() || a.keeps != b.keeps || a.refusal != b.refusal ||
        a.refused_with != b.refused_with || a.n_heads != b.n_heads || a.begun != b.begun)
      return false;
    for (size_t i = 0; i < a.requests.size(); ++i) {
      const HttpRequest &x = a.requests[i], &y = b.requests[i];
      if (x.method != y.method || x.path != y.path || x.query != y.query || x.body != y.body ||
          x.headers.size() != y.headers.size())
        return false;
      for (size_t k = 0; k < x.headers.size(); ++k)
        if (x.headers[k].name != y.headers[k].name || x.headers[k].value != y.headers[k].value) return false;
    }
    return true;
  }
};

inline ReadRequests read_pieces(const std::vector<std::string_view>& pieces, const HttpLimits& limits = {}) {
  ReadRequests out;
  RequestReader reader(limits);
  std::string in;
  for (const std::string_view piece : pieces) {
    in += piece;
    while (out.refusal == 0) {
      const RequestReader::Step step = reader.feed(in);
      if (step == RequestReader::Step::kNeedsMore) break;
      if (step == RequestReader::Step::kHead) ++out.n_heads;
      if (step == RequestReader::Step::kRefused) {
        out.refusal = reader.refusal().status;
        out.refused_with = reader.refusal().body;
      }
      if (step == RequestReader::Step::kComplete) {
        out.keeps.push_back(reader.keep_alive());
        out.requests.push_back(reader.request());
        reader.next();
      }
    }
  }
  out.begun = out.refusal == 0 && reader.begun();
  return out;
}

// In pieces of n bytes.
inline ReadRequests read_all(std::string_view bytes, size_t n, const HttpLimits& limits = {}) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < bytes.size(); at += n) pieces.push_back(bytes.substr(at, n));
  return read_pieces(pieces, limits);
}

inline ReadRequests read_in_two(std::string_view bytes, size_t at, const HttpLimits& limits = {}) {
  return read_pieces({bytes.substr(0, at), bytes.substr(at)}, limits);
}

}  // namespace ruvltra
