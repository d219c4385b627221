// What every face of the server shares: the model, who is calling, what is running, and the table of routes.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "ruvltra/model.h"
#include "ruvltra/sona.h"
#include "server/http.h"
#include "server/keys.h"
#include "server/learning_state.h"
#include "server/measures.h"
#include "server/workers.h"

namespace ruvltra {

// Settings of `ruvltra serve` (docs/server.md).
struct ServiceOptions {
  std::vector<ApiKey> keys = {};                // none: everybody is the tenant "local"
  std::vector<std::string> allowed_hosts = {};  // besides those of this machine
  std::vector<std::string> cors_origins = {};
  std::vector<std::string> aliases = {};  // names the model also answers to; "*": any
  std::string profile = "base";           // of requests for the model by its own name
  size_t max_per_tenant = 64;             // requests at a time, where there are keys
  double queue_seconds = 60, request_seconds = 600, ping_seconds = 15;
  bool ui = true;
};

// The model as the faces show it.
struct ServedInfo {
  std::string id = {};     // file name without folder and ending
  std::string quant = {};  // "Q4_K_M"
  uint64_t file_bytes = 0;
  int64_t created = 0;  // seconds since the epoch, of the file
};

// Whose request it is.
struct Caller {
  std::string tenant = "local";
  bool admin = true;  // without keys everybody is
};

// A request that is being answered, as GET /v1/requests tells of it.
struct Running {
  std::string id = {};  // of the response
  std::string route = {}, tenant = {};
  size_t n_prompts = 1;
  std::string preview = {};  // the beginning of what was asked
  std::chrono::steady_clock::time_point begin = {};
  std::atomic<size_t> n_prompt = 0, n_prompt_done = 0, n_generated = 0;
  std::function<void()> cancel = {};
};

class McpCalls;
struct Call;

class Service {
 public:
  explicit Service(ServiceOptions options);
  ~Service();

  const ServiceOptions& options() const { return options_; }

  // The model, once it is loaded; everything that needs it answers 503 before.
  void set_model(MediumModel* model, ServedInfo info);
  MediumModel* model() const { return model_.load(); }
  const ServedInfo& info() const { return info_; }  // *Requires*: model()
  void set_sona(Sona* sona);
  void set_sona_failure(const Error& error);
  Sona* sona() const { return sona_.load(); }
  AgentRouter* router() { return sona() != nullptr ? &*router_ : nullptr; }
  std::string sona_failure() const;
  void set_draining() { draining_ = true; }
  bool draining() const { return draining_; }

  // Admission by head alone; false with a refusal: key, host, origin, route, method.
  bool screen(const HttpRequest& head, HttpResponse& refusal);
  // Answers, now or later.
  void handle(std::shared_ptr<Exchange> exchange);
  void tally(const HttpRequest& request, int status);
  // Answers with what a handler returned; nothing if it answers by itself.
  void finish(const Call& call, Result<std::optional<HttpResponse>> handled);

  OpenTrajectories& open_trajectories() { return open_trajectories_; }
  McpCalls& mcp_calls() { return *mcp_calls_; }
  Workers& blocking() { return blocking_; }  // for handlers that wait long
  Jobs& jobs() { return jobs_; }
  Json jobs_json(const std::string& tenant) const { return jobs_.list(tenant); }

  Measures& measures() { return measures_; }
  double uptime_seconds() const;

  void add(const std::shared_ptr<Running>& running);
  void remove(const std::shared_ptr<Running>& running);
  std::vector<std::shared_ptr<Running>> running() const;
  size_t n_running(const std::string& tenant) const;  // prompts

  // The bank's block for a conversation, chosen once for a session.
  Result<ContextBlock> context_for(const Caller& caller, const std::string& session, std::string_view task);

  // The id of an answer for clients, and back: 0 if it is not one of this process.
  std::string response_id(std::string_view prefix, RequestId id) const;
  RequestId request_of(std::string_view response_id) const;

  void set_http(const HttpServer* http) { http_ = http; }
  HttpStats http_stats() const {
    const HttpServer* http = http_;
    return http != nullptr ? http->stats() : HttpStats();
  }

 private:
  std::vector<HttpHeader> cors_headers(const HttpRequest& request) const;

  const ServiceOptions options_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  const uint64_t nonce_;  // of this process, so that ids of an earlier one are not taken for its own
  std::atomic<MediumModel*> model_ = nullptr;
  ServedInfo info_;
  std::atomic<Sona*> sona_ = nullptr;
  std::optional<AgentRouter> router_;
  std::atomic<bool> draining_ = false;
  std::atomic<const HttpServer*> http_ = nullptr;
  Measures measures_;
  OpenTrajectories open_trajectories_;
  const std::unique_ptr<McpCalls> mcp_calls_;
  mutable std::mutex mutex_;  // of what follows
  std::string sona_failure_;
  std::vector<std::shared_ptr<Running>> running_;
  std::map<std::pair<std::string, std::string>, ContextBlock> contexts_;  // by tenant and session
  Workers blocking_{8, 64};
  Jobs jobs_;  // both end before what their work uses
};

// How a face tells an error.
enum class ErrorShape { kOpenAi, kAnthropic, kText };

// One request on its way through a handler.
struct Call {
  Service& service;
  Caller caller;
  std::shared_ptr<Exchange> exchange;
  std::vector<std::string> arguments = {};  // what stood for {...} in the pattern
  ErrorShape shape = ErrorShape::kOpenAi;
  std::string_view route = {};  // the pattern

  const HttpRequest& request() const { return exchange->request(); }
  // The body as a JSON object. Errors: json.*, request.body.
  Result<Json> body() const;
  MediumModel& model() const { return *service.model(); }
};

// A handler gives the response, an error, or nothing if it answers by itself, at once or later.
using Handled = Result<std::optional<HttpResponse>>;

struct Route {
  std::string_view method;
  std::string_view pattern;  // "/v1/models/{id}"
  enum class Guard { kOpen, kKey, kAdmin } guard = Guard::kKey;
  enum class Needs { kNothing, kModel, kSona } needs = Needs::kModel;
  ErrorShape shape = ErrorShape::kOpenAi;
  Handled (*handle)(Call& call) = nullptr;
  std::string_view summary;  // for docs and the OpenAPI file
  // What computes or writes before it answers runs where it keeps nobody else waiting.
  enum class Takes { kMoment, kLong } takes = Takes::kMoment;
};

// Runs the rest of a handler on the threads for work that takes long, and answers with what it returns.
// Error: server.busy.
Handled later(Call& call, std::function<Handled(Call& call)> rest);

// All of them. GET answers HEAD as well.
std::span<const Route> routes();

// The HTTP status of an error, and the error as a response.
int http_status(const Error& error);
HttpResponse to_response(const Error& error, ErrorShape shape);
// An error in that shape, as a JSON text for the inside of a stream.
std::string error_document(int status, std::string_view message, std::string_view code,
                           std::string_view param, ErrorShape shape);
HttpResponse json_response(const Json& document, int status = 200);

}  // namespace ruvltra
