// Any bytes as a connection: read whole, in two pieces and byte by byte, they are the same requests and the
// same refusal, within the limits; and what was read, written in the plainest form, is read as the same
// again. The first two bytes of the input say where it is cut.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "server/requests_for_test.h"

using namespace ruvltra;

namespace {

HttpLimits small_limits() {
  HttpLimits limits;
  limits.max_request_line = 64;
  limits.max_head = 256;
  limits.max_fields = 8;
  limits.max_body = 512;
  return limits;
}

// One way to write it, with a length and no chunks.
std::string written(const HttpRequest& request) {
  std::string out = request.method + " " + request.path;
  out += (request.query.empty() ? "" : "?" + request.query) + " HTTP/1.1\r\n";
  bool has_host = false;
  for (const HttpHeader& field : request.headers) {
    std::string name = field.name;
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    has_host |= name == "host";
    if (name != "content-length" && name != "transfer-encoding")
      out += field.name + ": " + field.value + "\r\n";
  }
  if (!has_host) out += "Host: x\r\n";
  return out + "Content-Length: " + std::to_string(request.body.size()) + "\r\n\r\n" + request.body;
}

void check(std::string_view bytes, size_t cut, const HttpLimits& limits) {
  const ReadRequests whole = read_all(bytes, bytes.size() + 1, limits);
  CHECK(read_all(bytes, 1, limits) == whole);
#ifdef RUVLTRA_PLANT_BUG
  CHECK(whole.refusal != 431);
#endif
  CHECK(read_in_two(bytes, cut % (bytes.size() + 1), limits) == whole);
  CHECK(whole.n_heads >= whole.requests.size() && whole.n_heads <= whole.requests.size() + 1);
  CHECK(whole.refusal == 0 || (whole.refusal >= 400 && whole.refusal <= 505));
  for (const HttpRequest& request : whole.requests) {
    CHECK(request.body.size() <= limits.max_body && request.headers.size() <= limits.max_fields);
    size_t n_head = request.method.size() + request.path.size() + request.query.size();
    CHECK(n_head <= limits.max_request_line);
    for (const HttpHeader& field : request.headers) {
      n_head += field.name.size() + field.value.size();
      for (const char c : field.name + field.value) CHECK(c != '\r' && c != '\n' && c != '\0');
    }
    CHECK(n_head <= limits.max_head);
    CHECK(request.path == "*" || request.path.starts_with('/'));
    HttpLimits wide;  // a length, and perhaps a Host, are added
    wide.max_head += 256;
    wide.max_fields += 2;
    const ReadRequests again = read_all(written(request), bytes.size() + 4096, wide);
    CHECK(again.refusal == 0 && again.requests.size() == 1);
    CHECK(again.requests[0].method == request.method && again.requests[0].path == request.path);
    CHECK(again.requests[0].query == request.query && again.requests[0].body == request.body);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t cut = data[0] | data[1] << 8;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  check(bytes, cut, HttpLimits());
  check(bytes, cut, small_limits());
  return 0;
}
