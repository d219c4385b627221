#include "server/service.h"

#include <algorithm>
#include <charconv>

#include "base/fail.h"
#include "base/record_id.h"
#include "server/fields.h"
#include "server/mcp.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxContexts = 1024;  // conversations whose bank block is kept

// Faces whose clients expect another form of error, also where no route matches.
ErrorShape shape_of(std::string_view path) {
  if (path.starts_with("/v1/messages")) return ErrorShape::kAnthropic;
  if (path.starts_with("/api/") || path == "/query" || path == "/feedback") return ErrorShape::kText;
  return ErrorShape::kOpenAi;
}

// Whether a path is of the pattern; fills what stands for its {...}.
bool matches(std::string_view pattern, std::string_view path, std::vector<std::string>& arguments) {
  arguments.clear();
  while (true) {
    const size_t brace = pattern.find('{');
    if (brace == std::string_view::npos) return path == pattern;
    if (path.substr(0, brace) != pattern.substr(0, brace)) return false;
    path.remove_prefix(brace);
    pattern.remove_prefix(pattern.find('}') + 1);
    const size_t end = path.find('/');
    const std::string_view argument = path.substr(0, end);
    if (argument.empty() || argument.size() > 256) return false;
    arguments.emplace_back(argument);
    path.remove_prefix(argument.size());
  }
}

struct Found {
  const Route* route = nullptr;
  std::string allowed;  // methods of the path, if this one is not among them
  std::vector<std::string> arguments;
};

Found find_route(const HttpRequest& request) {
  Found found;
  for (const Route& route : routes()) {
    std::vector<std::string> arguments;
    if (!matches(route.pattern, request.path, arguments)) continue;
    if (request.method == route.method || (request.method == "HEAD" && route.method == "GET")) {
      found.route = &route;
      found.arguments = std::move(arguments);
      return found;
    }
    if (!found.allowed.empty()) found.allowed += ", ";
    found.allowed += route.method;
    if (route.method == "GET") found.allowed += ", HEAD";
  }
  return found;
}

std::string_view bearer(const HttpRequest& request) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view authorization = request.header("authorization");
  if (authorization.size() > kScheme.size() &&
      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                 [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); }))
    return authorization.substr(kScheme.size());
  return request.header("x-api-key");
}

}  // namespace

Result<Json> Call::body() const {
  ASSIGN_OR_RETURN(Json document, parse_json(request().body, "body"));
  if (!document.is_object())
    return fail(ErrorKind::kUsage, "request.body", "body: expected a JSON object, found {}",
                type_of(document));
  return document;
}

HttpResponse json_response(const Json& document, int status) {
  return {.status = status, .body = to_json(document)};
}

std::string error_document(int status, std::string_view message, std::string_view code,
                           std::string_view param, ErrorShape shape) {
  if (shape == ErrorShape::kText) return to_json({{"error", message}});
  if (shape == ErrorShape::kAnthropic) {
    const std::string_view type = status == 503   ? "overloaded_error"
                                  : status >= 500 ? "api_error"
                                                  : error_type(status);
    return to_json({{"type", "error"}, {"error", {{"type", type}, {"message", message}}}});
  }
  return error_response(status, message, code, param).body;
}

int http_status(const Error& error) {
  const std::string_view id = error.id;
  if (id == "learning.not_found" || id == "store.not_found" || id == "request.not_found" ||
      id == "model_not_found")
    return 404;
  if (id == "store.conflict" || id == "generation_conflict") return 409;
  if (id == "store.full" || id == "store.disk_full") return 507;
  if (id == "request.forbidden") return 403;
  if (id == "rate_limit") return 429;
  switch (error.kind) {
    case ErrorKind::kInput:
    case ErrorKind::kUsage:
    case ErrorKind::kUnsupported:
      return 400;
    case ErrorKind::kMemory:
    case ErrorKind::kBusy:
    case ErrorKind::kCancelled:
      return 503;
    case ErrorKind::kIo:
      break;
  }
  return 500;
}

namespace {

// The names clients know; others keep the error's own.
std::string code_of(const Error& error) {
  if (error.id == "request.too_long") return "context_length_exceeded";
  if (error.id == "engine.queue_full") return "queue_full";
  return std::string(error.id);
}

}  // namespace

HttpResponse to_response(const Error& error, ErrorShape shape) {
  const int status = http_status(error);
  // A file's name is nobody's business but the operator's.
  const std::string message = error.kind == ErrorKind::kIo && status == 500
                                  ? "the server could not read or write its data"
                                  : error.message;
  const int told = shape == ErrorShape::kAnthropic && error.id == "engine.queue_full" ? 529 : status;
  return {.status = told, .body = error_document(status, message, code_of(error), field_of(error), shape)};
}

Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      nonce_([] {
        uint64_t nonce = 0;
        const RecordId id = new_record_id();
        for (size_t i = 8; i < 12; ++i) nonce = nonce << 8 | id.bytes[i];
        return nonce;
      }()),
      mcp_calls_(std::make_unique<McpCalls>()) {}

Service::~Service() = default;

void Service::set_model(MediumModel* model, ServedInfo info) {
  info_ = std::move(info);
  model_ = model;
}

void Service::set_sona(Sona* sona) {
  router_.emplace(*sona);
  sona_ = sona;
}

void Service::set_sona_failure(const Error& error) {
  const std::lock_guard lock(mutex_);
  sona_failure_ = error.message;
}

std::string Service::sona_failure() const {
  const std::lock_guard lock(mutex_);
  return sona_failure_;
}

double Service::uptime_seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

void Service::add(const std::shared_ptr<Running>& running) {
  const std::lock_guard lock(mutex_);
  running_.push_back(running);
}

void Service::remove(const std::shared_ptr<Running>& running) {
  const std::lock_guard lock(mutex_);
  std::erase(running_, running);
}

std::vector<std::shared_ptr<Running>> Service::running() const {
  const std::lock_guard lock(mutex_);
  return running_;
}

size_t Service::n_running(const std::string& tenant) const {
  const std::lock_guard lock(mutex_);
  size_t n = 0;
  for (const auto& running : running_)
    if (running->tenant == tenant) n += running->n_prompts;
  return n;
}

Result<ContextBlock> Service::context_for(const Caller& caller, const std::string& session,
                                          std::string_view task) {
  Sona* sona = this->sona();
  if (sona == nullptr) {
    return fail(ErrorKind::kBusy, "learning.not_ready", "bank: the learning system is not ready");
  }
  const auto key = std::pair(caller.tenant, session);
  if (!session.empty()) {
    const std::lock_guard lock(mutex_);
    if (const auto found = contexts_.find(key); found != contexts_.end()) return found->second;
  }
  ASSIGN_OR_RETURN(ContextBlock block,
                   sona->reasoning_bank().context_for(task, {.tenant = caller.tenant, .session = session}));
  if (!session.empty()) {
    const std::lock_guard lock(mutex_);
    if (contexts_.size() >= kMaxContexts) contexts_.erase(contexts_.begin());
    contexts_.emplace(key, block);
  }
  return block;
}

std::string Service::response_id(std::string_view prefix, RequestId id) const {
  return fmt::format("{}{:08x}{:x}", prefix, nonce_, id);
}

RequestId Service::request_of(std::string_view response_id) const {
  const size_t dash = response_id.find_last_of("-_");
  if (dash != std::string_view::npos) response_id.remove_prefix(dash + 1);
  uint64_t nonce = 0, id = 0;
  if (response_id.size() < 9 || response_id.size() > 24) return 0;
  const char* end = response_id.data() + response_id.size();
  const auto first = std::from_chars(response_id.data(), response_id.data() + 8, nonce, 16);
  const auto second = std::from_chars(response_id.data() + 8, end, id, 16);
  if (first.ptr != response_id.data() + 8 || second.ptr != end || nonce != nonce_) return 0;
  return id;
}

// For pages of --cors-origin: that they may read the answer, a refusal as well.
std::vector<HttpHeader> Service::cors_headers(const HttpRequest& request) const {
  const std::string origin(request.header("origin"));
  const auto& listed = options_.cors_origins;
  if (origin.empty() || std::find(listed.begin(), listed.end(), origin) == listed.end()) return {};
  return {{"Access-Control-Allow-Origin", origin},
          {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After, Mcp-Session-Id"},
          {"Vary", "Origin"}};
}

bool Service::screen(const HttpRequest& head, HttpResponse& refusal) {
  const ErrorShape shape = shape_of(head.path);
  const auto refuse = [&](int status, std::string_view message, std::string_view code,
                          std::vector<HttpHeader> headers = {}) {
    for (HttpHeader& header : cors_headers(head)) headers.push_back(std::move(header));
    refusal = {.status = status,
               .body = error_document(status, message, code, "", shape),
               .headers = std::move(headers)};
    return false;
  };
  const Found found = find_route(head);
  const bool open = found.route != nullptr && found.route->guard == Route::Guard::kOpen;
  const bool probe = head.path == "/health" || head.path == "/ready";
  const std::string_view host = head.header("host"), origin = head.header("origin");
  if (!probe && !is_allowed_host(host, options_.allowed_hosts))
    return refuse(403, "Host: expected this machine or one of --allowed-host", "host_not_allowed");
  if (!origin.empty() && !is_allowed_origin(origin, host, options_.cors_origins))
    return refuse(403, "Origin: expected the server's own or one of --cors-origin", "origin_not_allowed");
  if (head.method == "OPTIONS") return true;  // handle() answers it
  if (!options_.keys.empty() && !open && find_key(options_.keys, bearer(head)) == nullptr) {
    return refuse(401,
                  bearer(head).empty() ? "expected a key: Authorization: Bearer KEY, or x-api-key: KEY"
                                       : "the key is not known",
                  "invalid_api_key", {{"WWW-Authenticate", "Bearer"}});
  }
  if (found.route == nullptr && !found.allowed.empty())
    return refuse(405, "method: expected " + found.allowed, "method_not_allowed",
                  {{"Allow", found.allowed + ", OPTIONS"}});
  if (found.route == nullptr) return refuse(404, "no such route", "not_found");
  return true;
}

void Service::handle(std::shared_ptr<Exchange> exchange) {
  const HttpRequest& request = exchange->request();
  std::vector<HttpHeader> cors = cors_headers(request);
  Found found = find_route(request);
  if (request.method == "OPTIONS") {
    const std::string allowed = found.allowed.empty() ? "OPTIONS" : found.allowed + ", OPTIONS";
    std::vector<HttpHeader> headers = {{"Allow", allowed}};
    if (!cors.empty()) {
      headers.insert(headers.end(), cors.begin(), cors.end());
      headers.push_back({"Access-Control-Allow-Methods", allowed});
      // Clients name their versions and more in headers of their own.
      const std::string_view asked = request.header("access-control-request-headers");
      headers.push_back({"Access-Control-Allow-Headers",
                         std::string(asked.empty() ? "Authorization, Content-Type, X-Api-Key" : asked)});
      headers.push_back({"Access-Control-Max-Age", "600"});
    }
    return exchange->respond({.status = 204, .headers = std::move(headers)});
  }
  const Route& route = *found.route;
  exchange->add_headers(std::move(cors));
  Call call{*this, {}, exchange, std::move(found.arguments), route.shape, route.pattern};
  if (!options_.keys.empty()) {
    // Open routes get no caller; the screen has seen the key of all others.
    if (const ApiKey* key = find_key(options_.keys, bearer(request))) {
      call.caller = {key->tenant, key->admin};
      const std::string_view acting_for = request.header("x-ruvltra-tenant");
      if (key->admin && !acting_for.empty() && acting_for.size() <= 64) call.caller.tenant = acting_for;
    } else {
      call.caller = {"", false};
    }
  }
  const auto fail_with = [&](int status, std::string_view message, std::string_view code) {
    HttpResponse response{.status = status, .body = error_document(status, message, code, "", route.shape)};
    if (status == 503) response.headers.push_back({"Retry-After", "1"});
    exchange->respond(std::move(response));
  };
  if (route.guard == Route::Guard::kAdmin && !call.caller.admin)
    return fail_with(403, "expected an administrator's key", "admin_only");
  if (route.needs != Route::Needs::kNothing && model() == nullptr)
    return fail_with(503, "model is loading", "model_loading");
  if (route.needs == Route::Needs::kSona && sona() == nullptr) {
    const std::string why = sona_failure();
    return fail_with(503,
                     why.empty() ? "the learning system is starting" : "the learning system did not start",
                     why.empty() ? "learning_loading" : "learning_failed");
  }
  const bool computes = route.needs == Route::Needs::kSona || route.takes == Route::Takes::kLong;
  finish(call, computes ? later(call, route.handle) : route.handle(call));
}

void Service::finish(const Call& call, Handled handled) {
  if (!handled) {
    HttpResponse response = to_response(handled.error(), call.shape);
    if (response.status == 429 || response.status == 503 || response.status == 529) {
      measures_.rejected(handled.error().id);
      const double seconds = std::clamp(measures_.mean_answer_seconds(), 1.0, 60.0);
      response.headers.push_back({"Retry-After", std::to_string(static_cast<int>(seconds + 0.999))});
    }
    call.exchange->respond(std::move(response));
  } else if (*handled) {
    call.exchange->respond(std::move(**handled));
  }
}

Handled later(Call& call, std::function<Handled(Call& call)> rest) {
  RETURN_IF_ERROR(call.service.blocking().post([call, rest = std::move(rest)]() mutable {
    if (call.exchange->closed()) return;  // nobody waits for it any more
    call.service.finish(call, rest(call));
  }));
  return std::nullopt;
}

void Service::tally(const HttpRequest& request, int status) {
  const Found found = find_route(request);
  measures_.http(found.route != nullptr ? found.route->pattern : "other", status);
}

}  // namespace ruvltra
