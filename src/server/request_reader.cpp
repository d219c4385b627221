#include "server/request_reader.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>

#include "base/json.h"

namespace ruvltra {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

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

// Bytes that no head may hold: every CR is before a LF, every LF after a CR, and there are no other controls
// but tabs.
bool has_stray_control(std::string_view head) {
  for (size_t i = 0; i < head.size(); ++i) {
    const auto c = static_cast<unsigned char>(head[i]);
    if (c == '\r'   ? i + 1 < head.size() && head[i + 1] != '\n'
        : c == '\n' ? i == 0 || head[i - 1] != '\r'
                    : (c < 0x20 && c != '\t') || c == 0x7f)
      return true;
  }
  return false;
}

// What is wrong with a complete head (request line, fields, the empty line).
std::optional<Objection> objection_to(std::string_view head, const HttpLimits& limits) {
  size_t n_fields = 0, n_lengths = 0, n_encodings = 0, n_hosts = 0;
  const size_t line_end = head.find("\r\n");
  const std::string_view line = head.substr(0, line_end);
  if (line.size() > limits.max_request_line)
    return Objection{414, "request line: longer than the limit", "request_line_too_long"};
  if (!line.ends_with(" HTTP/1.1") && !line.ends_with(" HTTP/1.0"))
    return Objection{line.find(" HTTP/") == std::string_view::npos ? 400 : 505,
                     "request line: expected METHOD TARGET HTTP/1.1", "bad_request_line"};
  for (size_t at = line_end + 2; at + 2 < head.size();) {
    const size_t end = head.find("\r\n", at);
    const std::string_view field = head.substr(at, end - at);
    at = end + 2;
    if (++n_fields > limits.max_fields) return Objection{431, "headers: too many fields", "too_many_headers"};
    const size_t colon = field.find(':');
    const std::string_view name = field.substr(0, colon);
    if (colon == std::string_view::npos || name.empty() ||
        !std::all_of(name.begin(), name.end(), is_token_char))
      return Objection{400, "headers: expected NAME: VALUE on every line", "bad_header"};
    const std::string_view value = trimmed(field.substr(colon + 1));
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

struct RequestReader::Parser : http::request_parser<http::string_body> {};

RequestReader::RequestReader(const HttpLimits& limits) : limits_(limits) {}
RequestReader::~RequestReader() = default;

void RequestReader::next() {
  state_ = State::kBetween;
  parser_.reset();
  request_ = {};
  keep_alive_ = http_1_0_ = wants_continue_ = false;
}

RequestReader::Step RequestReader::refuse(int status, std::string_view message, std::string_view code) {
  state_ = State::kDone;
  refusal_ = error_response(status, message, code);
  return Step::kRefused;
}

RequestReader::Step RequestReader::feed(std::string& in) {
  switch (state_) {
    case State::kBetween:
      if (in.starts_with("\r\n")) in.erase(0, 2);  // RFC 9112 2.2: one empty line before a request
      if (in.empty()) return Step::kNeedsMore;
      state_ = State::kHead;
      [[fallthrough]];
    case State::kHead:
      return read_head(in);
    case State::kBody:
      return read_body(in);
    case State::kDone:
      break;
  }
  return Step::kNeedsMore;
}

RequestReader::Step RequestReader::read_head(std::string& in) {
  const size_t end = in.find("\r\n\r\n");
  const std::string_view seen(in.data(), end == std::string::npos ? in.size() : end + 4);
  if (has_stray_control(seen))
    return refuse(400, "head: a control character, or a bare CR or LF", "bad_head");
  if (end == std::string::npos) {
    if (in.size() > limits_.max_request_line && in.find("\r\n") == std::string::npos)
      return refuse(414, "request line: longer than the limit", "request_line_too_long");
    if (in.size() > limits_.max_head)
      return refuse(431, "headers: larger than the limit", "headers_too_large");
    return Step::kNeedsMore;
  }
  if (seen.size() > limits_.max_head)
    return refuse(431, "headers: larger than the limit", "headers_too_large");
  if (const auto objection = objection_to(seen, limits_))
    return refuse(objection->status, objection->message, objection->code);

  parser_ = std::make_unique<Parser>();
  parser_->header_limit(static_cast<uint32_t>(limits_.max_head));
  parser_->body_limit(limits_.max_body);
  parser_->eager(false);
  beast::error_code error;
  parser_->put(asio::const_buffer(seen.data(), seen.size()), error);
  if (error || !parser_->is_header_done())
    return refuse(400, "head: " + (error ? error.message() : std::string("incomplete")), "bad_head");
  in.erase(0, seen.size());
  parser_->eager(true);

  const auto& head = parser_->get();
  const std::string_view target(head.target().data(), head.target().size());
  const size_t question = target.find('?');
  request_.method = std::string(head.method_string());
  request_.path = target.substr(0, question);
  if (question != std::string_view::npos) request_.query = target.substr(question + 1);
  if (request_.path != "*" && !request_.path.starts_with('/'))
    return refuse(400, "request line: expected a target that begins with /", "bad_target");
  for (const auto& field : head)
    request_.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  keep_alive_ = parser_->keep_alive();
  http_1_0_ = head.version() < 11;
  wants_continue_ = same_name(request_.header("expect"), "100-continue");
  if (!wants_continue_ && !request_.header("expect").empty())
    return refuse(417, "Expect: expected 100-continue", "bad_expect");
  state_ = State::kBody;
  return Step::kHead;
}

RequestReader::Step RequestReader::read_body(std::string& in) {
  while (!parser_->is_done()) {
    if (in.empty()) return Step::kNeedsMore;
    beast::error_code error;
    const size_t n = parser_->put(asio::const_buffer(in.data(), in.size()), error);
    in.erase(0, n);
    if (error == http::error::need_more || (!error && n == 0)) {
      // Only the line before a chunk can ask for more than it takes.
      if (in.size() > limits_.max_request_line) return refuse(400, "chunk: no end of its line", "bad_chunk");
      return Step::kNeedsMore;
    }
    if (error == http::error::body_limit) return refuse(413, "body: larger than the limit", "body_too_large");
    if (error) return refuse(400, "body: " + error.message(), "bad_body");
  }
  request_.body = std::move(parser_->get().body());
  state_ = State::kDone;
  return Step::kComplete;
}

}  // namespace ruvltra
