#include "server/request_reader.h"

#include <algorithm>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>
#include <iterator>
#include <optional>

#include "base/json.h"

namespace ruvltra {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr size_t kMaxChunkLine = 1 << 10;     // of a chunk's size and extensions, its end included
constexpr size_t kMaxTrailerBytes = 8 << 10;  // all of them

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

struct Objection {
  int status;
  std::string_view message, code;
};

constexpr bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// What a piece of a head comes to, as soon as that can be told.
struct Look {
  enum { kMore, kFound, kStray, kLong } what;
  size_t n = 0;  // bytes up to the mark, the mark included
};

// Looks for a mark of CRs and LFs within `max_bytes`. Stray is a byte that no head may hold before it: a CR
// that is not before a LF, a LF that is not after a CR, any other control but tabs. The first `n_checked`
// bytes hold none.
Look look_for(std::string_view mark, std::string_view in, size_t max_bytes, size_t n_checked = 0) {
  const size_t at = in.find(mark);
  const std::string_view seen = in.substr(0, at == std::string_view::npos ? max_bytes : at + mark.size());
  for (size_t i = n_checked; i < seen.size() && i < max_bytes; ++i) {
    const auto c = static_cast<unsigned char>(seen[i]);
    const bool after_cr = i > 0 && seen[i - 1] == '\r';
    if (after_cr != (c == '\n') || (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
      return {Look::kStray};
  }
  if (at == std::string_view::npos) return {in.size() < max_bytes ? Look::kMore : Look::kLong};
  return seen.size() <= max_bytes ? Look{Look::kFound, seen.size()} : Look{Look::kLong};
}

// Fields that say how a request is read or who sends it: they come before the body, or not at all.
bool belongs_before_body(std::string_view name) {
  constexpr std::string_view kNames[] = {"content-length", "transfer-encoding", "host", "authorization",
                                         "x-api-key"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](std::string_view one) { return same_name(one, name); });
}

std::string_view name_of(std::string_view field) {
  const size_t colon = field.find(':');
  const std::string_view name = field.substr(0, colon);
  const bool is_name =
      colon != std::string_view::npos && std::all_of(name.begin(), name.end(), is_token_char);
  return is_name ? name : std::string_view();
}

// What is wrong with a complete head (request line, fields, the empty line).
std::optional<Objection> objection_to(std::string_view head, const HttpLimits& limits) {
  size_t n_fields = 0, n_lengths = 0, n_encodings = 0, n_hosts = 0;
  const size_t line_end = head.find("\r\n");
  const std::string_view line = head.substr(0, line_end);
  if (!line.ends_with(" HTTP/1.1") && !line.ends_with(" HTTP/1.0"))
    return Objection{line.find(" HTTP/") == std::string_view::npos ? 400 : 505,
                     "request line: expected METHOD TARGET HTTP/1.1", "bad_request_line"};
  for (size_t at = line_end + 2; at + 2 < head.size();) {
    const size_t end = head.find("\r\n", at);
    const std::string_view field = head.substr(at, end - at);
    at = end + 2;
    if (++n_fields > limits.max_fields) return Objection{431, "headers: too many fields", "too_many_headers"};
    const std::string_view name = name_of(field);
    if (name.empty()) return Objection{400, "headers: expected NAME: VALUE on every line", "bad_header"};
    const std::string_view value = trimmed(field.substr(name.size() + 1));
    if (same_name(name, "content-length")) {
      ++n_lengths;
      if (value.empty() || value.size() > 15 ||
          !std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; }))
        return Objection{400, "Content-Length: expected a decimal number", "bad_content_length"};
      if (std::stoull(std::string(value)) > limits.max_body)
        return Objection{413, "body: larger than the limit", "body_too_large"};
    }
    if (same_name(name, "transfer-encoding")) {
      ++n_encodings;
      if (!same_name(value, "chunked"))
        return Objection{501, "Transfer-Encoding: expected chunked", "bad_transfer_encoding"};
    }
    n_hosts += same_name(name, "host");
  }
  if (n_lengths > 1 || n_encodings > 1 || n_lengths + n_encodings > 1)
    return Objection{400, "expected one of Content-Length and Transfer-Encoding", "ambiguous_length"};
  if (n_encodings > 0 && line.ends_with("1.0"))
    return Objection{400, "Transfer-Encoding: not in HTTP/1.0", "ambiguous_length"};
  if (n_hosts > 1 || (n_hosts == 0 && line.ends_with("1.1")))
    return Objection{400, "Host: expected once", "bad_host"};
  return std::nullopt;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const HttpHeader& field : headers)
    if (same_name(field.name, name)) return field.value;
  return {};
}

std::string_view status_text(int status) {
  switch (status) {
    case 503:
      return "Service Unavailable";
    case 507:
      return "Insufficient Storage";
    case 529:
      return "Overloaded";
    default: {
      const auto text = http::obsolete_reason(static_cast<http::status>(status));
      return {text.data(), text.size()};
    }
  }
}

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 409:
      return "conflict_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 507:
      return "storage_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

HttpResponse error_response(int status, std::string_view message, std::string_view code,
                            std::string_view param) {
  const auto or_null = [](std::string_view text) { return text.empty() ? Json() : Json(text); };
  return {.status = status,
          .body = to_json({{"error",
                            {{"message", message},
                             {"type", error_type(status)},
                             {"param", or_null(param)},
                             {"code", or_null(code)}}}})};
}

void RequestReader::next() {
  state_ = State::kBetween;
  n_checked_ = n_trailers_ = n_trailer_bytes_ = 0;
  n_left_ = 0;
  request_ = {};
  keep_alive_ = http_1_0_ = wants_continue_ = chunked_ = false;
}

RequestReader::Step RequestReader::refuse(int status, std::string_view message, std::string_view code) {
  state_ = State::kDone;
  refusal_ = error_response(status, message, code);
  return Step::kRefused;
}

RequestReader::Step RequestReader::feed(std::string& in) {
  if (state_ == State::kDone) return Step::kNeedsMore;
  if (state_ == State::kBetween) {
    // RFC 9112 2.2: empty lines before a request are skipped.
    size_t n_skipped = 0;
    while (in.compare(n_skipped, 2, "\r\n") == 0) n_skipped += 2;
    in.erase(0, n_skipped);
    if (in.empty() || in == "\r") return Step::kNeedsMore;
    state_ = State::kHead;
  }
  return state_ == State::kHead ? read_head(in) : read_body(in);
}

RequestReader::Step RequestReader::read_head(std::string& in) {
  const auto stray = [&] { return refuse(400, "head: a control character, or a bare CR or LF", "bad_head"); };
  // The line first: what is wrong first decides, however much has come.
  const Look line = look_for("\r\n", in, limits_.max_request_line + 2, n_checked_);
  if (line.what == Look::kStray) return stray();
  if (line.what == Look::kLong)
    return refuse(414, "request line: longer than the limit", "request_line_too_long");
  const Look whole = look_for("\r\n\r\n", in, limits_.max_head, n_checked_);
  if (whole.what == Look::kStray) return stray();
  if (whole.what == Look::kLong) return refuse(431, "headers: larger than the limit", "headers_too_large");
  n_checked_ = in.size();
  if (whole.what == Look::kMore) return Step::kNeedsMore;

  const std::string_view seen(in.data(), whole.n);
  if (const auto objection = objection_to(seen, limits_))
    return refuse(objection->status, objection->message, objection->code);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(static_cast<uint32_t>(limits_.max_head));
  parser.body_limit(limits_.max_body);
  parser.eager(false);
  beast::error_code error;
  parser.put(asio::const_buffer(seen.data(), seen.size()), error);
  if (error || !parser.is_header_done())
    return refuse(400, "head: " + (error ? error.message() : std::string("incomplete")), "bad_head");
  in.erase(0, whole.n);

  const auto& head = parser.get();
  const std::string_view target(head.target().data(), head.target().size());
  const size_t question = target.find('?');
  request_.method = std::string(head.method_string());
  request_.path = target.substr(0, question);
  if (question != std::string_view::npos) request_.query = target.substr(question + 1);
  if (request_.path != "*" && !request_.path.starts_with('/'))
    return refuse(400, "request line: expected a target that begins with /", "bad_target");
  for (const auto& field : head)
    request_.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  keep_alive_ = parser.keep_alive();
  http_1_0_ = head.version() < 11;
  chunked_ = parser.chunked();
  n_left_ = parser.content_length().value_or(0);
  wants_continue_ = same_name(request_.header("expect"), "100-continue");
  if (!wants_continue_ && !request_.header("expect").empty())
    return refuse(417, "Expect: expected 100-continue", "bad_expect");
  state_ = chunked_ ? State::kChunkSize : State::kBody;
  return Step::kHead;
}

RequestReader::Step RequestReader::read_body(std::string& in) {
  std::string_view rest = in;
  Step step = Step::kComplete;
  while (state_ != State::kDone && step == Step::kComplete) step = read_part(rest);
  in.erase(0, in.size() - rest.size());
  return step;
}

RequestReader::Step RequestReader::read_part(std::string_view& rest) {
  if (state_ == State::kChunkSize) return read_chunk_size(rest);
  if (state_ == State::kTrailers) return read_trailer(rest);
  if (state_ == State::kChunkEnd) {
    constexpr std::string_view kEnd = "\r\n";
    if (rest.substr(0, 2) != kEnd.substr(0, rest.size()))
      return refuse(400, "chunk: expected its end after as many bytes as it said", "bad_chunk");
    if (rest.size() < 2) return Step::kNeedsMore;
    rest.remove_prefix(2);
    state_ = State::kChunkSize;
    return Step::kComplete;
  }
  const auto n = static_cast<size_t>(std::min<uint64_t>(n_left_, rest.size()));
  request_.body.append(rest.substr(0, n));
  rest.remove_prefix(n);
  n_left_ -= n;
  if (n_left_ > 0) return Step::kNeedsMore;
  state_ = chunked_ ? State::kChunkEnd : State::kDone;
  return Step::kComplete;
}

RequestReader::Step RequestReader::read_chunk_size(std::string_view& rest) {
  const Look look = look_for("\r\n", rest, kMaxChunkLine);
  if (look.what == Look::kMore) return Step::kNeedsMore;
  const std::string_view line = rest.substr(0, std::max<size_t>(look.n, 2) - 2);
  const size_t n_digits = std::min(line.find(';'), line.size());
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + n_digits, size, 16);
  if (look.what != Look::kFound || n_digits == 0 || n_digits > 16 || error != std::errc() ||
      end != line.data() + n_digits)
    return refuse(400, "chunk: expected a line with its size in hexadecimal digits", "bad_chunk");
  if (size > limits_.max_body - request_.body.size())
    return refuse(413, "body: larger than the limit", "body_too_large");
  rest.remove_prefix(look.n);
  n_left_ = size;
  state_ = size == 0 ? State::kTrailers : State::kChunkData;
  return Step::kComplete;
}

// They are checked and dropped.
RequestReader::Step RequestReader::read_trailer(std::string_view& rest) {
  const Look look = look_for("\r\n", rest, kMaxTrailerBytes - n_trailer_bytes_);
  if (look.what == Look::kMore) return Step::kNeedsMore;
  if (look.what == Look::kLong || n_trailers_ > limits_.max_fields)
    return refuse(431, "trailers: larger than the limit", "headers_too_large");
  if (look.what == Look::kStray) return refuse(400, "trailers: a control character", "bad_trailer");
  const std::string_view line = rest.substr(0, look.n - 2);
  rest.remove_prefix(look.n);
  n_trailer_bytes_ += look.n;
  ++n_trailers_;
  if (line.empty()) {
    state_ = State::kDone;
    return Step::kComplete;
  }
  const std::string_view name = name_of(line);
  if (name.empty() || belongs_before_body(name))
    return refuse(400, "trailers: expected NAME: VALUE on every line, and nothing about the body",
                  "bad_trailer");
  return Step::kComplete;
}

}  // namespace ruvltra
