#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "learning.h"
#include "load.h"
#include "options.h"
#include "server/http.h"
#include "server/service.h"
#include "server_file.h"
#include "verbs.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelOptions model;
  SpeculationOptions speculation;
  LearningOptions learning;
  std::string profile = "base";
  std::string host = "127.0.0.1";
  int port = 8080;
  std::string api_key_file, api_key;
  std::vector<std::string> allowed_hosts, cors_origins, aliases;
  int parallel = 8, queue = 256, per_tenant = 64;
  int queue_timeout = 60, request_timeout = 600, sse_ping = 15, drain = 10;
  std::string prefix_cache = "on";
  bool no_ui = false;
};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<std::vector<ApiKey>> read_keys(const Options& options) {
  std::vector<ApiKey> keys;
  if (!options.api_key_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, read_text_file(options.api_key_file, uint64_t{1} << 20));
    ASSIGN_OR_RETURN(keys, parse_keys(text, options.api_key_file));
    struct stat info = {};
    if (stat(options.api_key_file.c_str(), &info) == 0 && (info.st_mode & 077) != 0)
      print_warning(options.api_key_file + ": others can read the keys; chmod 600 it");
  }
  if (!options.api_key.empty()) {
    print_warning("--api-key: the key is visible to everybody who can list processes; use --api-key-file");
    keys.push_back(make_key(options.api_key, "default", true));
  }
  if (keys.empty() && !is_loopback(options.host)) {
    return fail(ErrorKind::kUsage, "server.no_keys",
                "--host {}: expected --api-key-file beside an address that others can reach", options.host);
  }
  return keys;
}

// What systemd's Type=notify and watchdog want to hear (sd_notify(3)); nothing without NOTIFY_SOCKET.
class Supervisor {
 public:
  static constexpr std::string_view kAlive = "WATCHDOG=1";
  Supervisor() {
    const char* path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
        std::strlen(path) >= sizeof(address_.sun_path))
      return;
    address_.sun_family = AF_UNIX;
    std::strcpy(address_.sun_path, path);
    length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
    if (path[0] == '@') address_.sun_path[0] = '\0';  // the abstract namespace
    socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (const char* microseconds = std::getenv("WATCHDOG_USEC"))
      period_ = std::chrono::microseconds(std::strtoll(microseconds, nullptr, 10) / 2);
  }
  ~Supervisor() {
    if (socket_ >= 0) close(socket_);
  }
  void say(std::string_view state) const {
    if (socket_ < 0) return;
    // A sign of life that nobody takes is not worth waiting for.
    const int flags = MSG_NOSIGNAL | (state == kAlive ? MSG_DONTWAIT : 0);
    (void)!sendto(socket_, state.data(), state.size(), flags, reinterpret_cast<const sockaddr*>(&address_),
                  length_);
  }
  // How long to wait at most before the next sign of life.
  int wait_ms() const {
    return period_.count() <= 0
               ? -1
               : static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(period_).count());
  }

 private:
  sockaddr_un address_ = {};
  socklen_t length_ = 0;
  int socket_ = -1;
  std::chrono::microseconds period_ = {};
};

ServedInfo info_of(const ServedModel& served, const Options& options) {
  ServedInfo info;
  info.id = std::filesystem::path(served.label).stem().string();
  const auto path = resolve_model(options.model.model);
  if (!path) return info;
  if (const auto file = GgufFile::open(*path)) {
    info.quant = quantisation_name(*file);
    info.file_bytes = file->file_bytes();
  }
  struct stat status = {};
  if (stat(path->c_str(), &status) == 0) info.created = status.st_mtime;
  return info;
}

std::string url_of(const Options& options, int port) {
  const std::string host = options.host == "0.0.0.0" || options.host == "::" ? "127.0.0.1" : options.host;
  return fmt::format("http://{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port);
}

void print_ready(const Options& options, const Service& service, const std::string& url) {
  const std::string key = service.options().keys.empty() ? "local" : "YOUR-KEY";
  const std::string header = service.options().keys.empty() ? "" : " -H 'Authorization: Bearer YOUR-KEY'";
  print_note(fmt::format("serving {} at {}{}", service.info().id, url,
                         options.no_ui ? "" : " (open it in a browser)"));
  print_note(
      fmt::format("  curl {}/v1/chat/completions{} -d '{{\"messages\": [{{\"role\": \"user\", \"content\": "
                  "\"Hello\"}}]}}'",
                  url, header));
  print_note(fmt::format("  OPENAI_BASE_URL={}/v1 OPENAI_API_KEY={}", url, key));
  print_note(fmt::format("  ANTHROPIC_BASE_URL={} ANTHROPIC_API_KEY={}", url, key));
  print_note(fmt::format("  OLLAMA_HOST={}", url));
}

// Lets what runs end, for at most `seconds`; then cancels it.
void drain(Service& service, HttpServer& http, double seconds) {
  service.set_draining();
  http.drain();
  const auto wait_until_idle = [&](double limit) {
    const auto end = Clock::now() + std::chrono::duration<double>(limit);
    while (http.stats().n_exchanges > 0 && Clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return http.stats().n_exchanges == 0;
  };
  if (wait_until_idle(seconds)) return;
  const auto running = service.running();
  for (const auto& one : running) one->cancel();
  if (!running.empty())
    print_note(fmt::format("cancelled {} requests that did not end in {} s", running.size(), seconds));
  wait_until_idle(2);
}

Result<void> adjust(const Options& options, MediumConfig& config) {
  config.engine.parallel = options.parallel;
  config.engine.queue = options.queue;
  config.engine.slow_reader_seconds = EngineConfig().slow_reader_seconds;
  config.engine.prefix_cache = options.prefix_cache == "on";
  if (options.model.kv_mem.empty()) config.engine.kv_bytes = 0;  // as much as all of them need, within memory
  RETURN_IF_ERROR(apply_learning(options.learning, options.profile, config));
  ASSIGN_OR_RETURN(const Variant variant, parse_variant(options.profile));
  if (options.learning.learn.empty() && variant == Variant::kAgent)
    config.sona_config.learn = LearnMode::kRecord;
  return {};
}

Result<int> serve(Options& options) {
  ServiceOptions settings;
  ASSIGN_OR_RETURN(settings.keys, read_keys(options));
  settings.allowed_hosts = options.allowed_hosts;
  settings.cors_origins = options.cors_origins;
  settings.aliases = options.aliases;
  settings.profile = options.profile;
  settings.max_per_tenant = static_cast<size_t>(options.per_tenant);
  settings.queue_seconds = options.queue_timeout;
  settings.request_seconds = options.request_timeout;
  settings.ping_seconds = options.sse_ping;
  settings.ui = !options.no_ui;
  Service service(std::move(settings));
  const Supervisor supervisor;

  std::optional<ServedModel> served;  // outlives what serves it
  ASSIGN_OR_RETURN(
      std::unique_ptr<HttpServer> http,
      HttpServer::listen(
          {.host = options.host, .port = options.port},
          [&](const HttpRequest& head, HttpResponse& refusal) { return service.screen(head, refusal); },
          [&](std::shared_ptr<Exchange> exchange) { service.handle(std::move(exchange)); },
          [&](const HttpRequest& request, int status) { service.tally(request, status); }));
  service.set_http(http.get());
  ASSIGN_OR_RETURN(served, load_served(options.model, options.speculation,
                                       [&](MediumConfig& config) { return adjust(options, config); }));
  for (const std::string& warning : served->model.warnings()) print_warning(warning);
  if (has_random_weights(served->model.name()))
    print_warning(served->label + ": random weights; the text means nothing");
  service.set_model(&served->model, info_of(*served, options));
  const std::string url = url_of(options, http->port());
  print_ready(options, service, url);
  std::optional<ServerFile> announced;
  supervisor.say("READY=1\nSTATUS=Serving");

  // The first start with a model reads some 600 texts: nobody waits for that.
  std::thread learning([&] {
    if (const auto started = served->model.enable_sona([](size_t, size_t) { return !stop_requested(); })) {
      service.set_sona(served->model.sona());
      announced.emplace(served->model.config().data_dir, url);
    } else {
      service.set_sona_failure(started.error());
      if (!stop_requested()) print_warning("the learning system did not start: " + started.error().message);
    }
  });
  while (!stop_requested()) {
    pollfd event = {stop_event(), POLLIN, 0};
    poll(&event, 1, supervisor.wait_ms());
    supervisor.say(Supervisor::kAlive);
  }
  supervisor.say("STOPPING=1");
  // The watchdog stays armed while answers end and the learning system comes to its first stop.
  const std::jthread alive([&supervisor](const std::stop_token& ended) {
    do {
      supervisor.say(Supervisor::kAlive);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    } while (!ended.stop_requested());
  });
  drain(service, *http, options.drain);
  learning.join();
  http.reset();
  service.jobs().stop();
  service.blocking().stop();
  return termination_requested() ? kExitOk : kExitInterrupted;
}

}  // namespace

void add_serve_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app =
      program.add_verb("serve", "Answer over HTTP: OpenAI, Anthropic, Ollama and MCP clients, and a web page",
                       "  ruvltra serve\n"
                       "  ruvltra serve -m model.gguf --profile agent --learn on\n"
                       "  ruvltra serve --host 0.0.0.0 --allowed-host chat.example.org --api-key-file keys\n"
                       "  ruvltra serve --alias gpt-4o-mini --alias '*'\n",
                       [options] { return serve(*options); });
  options->learning.learn.clear();  // as the profile says
  add_model_options(app, options->model);
  add_kv_mem_option(app, options->model.kv_mem);
  add_speculation_options(app, options->speculation);
  app.add_option("--profile", options->profile, "Sampling and learning presets of requests that name none")
      ->check(one_of({"base", "coder", "agent"}));
  add_data_dir_option(app, options->learning.data_dir);
  app.add_option("--learn", options->learning.learn,
                 "on: adapters learn from feedback; record: answers are kept as trajectories; off: only what "
                 "clients post is kept; default is record for the profile agent, else off")
      ->check(one_of({"off", "record", "on"}))
      ->group("Learning");
  const char* group = "Network";
  app.add_option("--host", options->host, "Address to listen on; others than this machine's need keys")
      ->group(group);
  app.add_option("--port", options->port, "Port; 0: any free one")->check(in_range(0, 65535))->group(group);
  app.add_option("--api-key-file", options->api_key_file,
                 "Lines TENANT KEY [admin] or TENANT sha256:HEX [admin]")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--api-key", options->api_key,
                 "One key, of the tenant default; others can see it in the process list")
      ->type_name("KEY")
      ->group(group);
  const auto add_list = [&](const char* name, std::vector<std::string>& values, const char* help) {
    app.add_option(name, values, help)->delimiter(',')->type_name("LIST")->group(group);
  };
  add_list("--allowed-host", options->allowed_hosts, "Names in the Host header besides this machine's");
  add_list("--cors-origin", options->cors_origins, "Origins of web pages that may call");
  add_list("--alias", options->aliases, "Other names the model answers to; '*': any name");
  app.add_option("--parallel", options->parallel, "Requests computed together")
      ->check(in_range(1, 64))
      ->group("Limits");
  app.add_option("--queue", options->queue, "Requests that may wait; more get 503")
      ->check(in_range(0, 65536))
      ->group("Limits");
  app.add_option("--per-tenant", options->per_tenant,
                 "With keys: requests of one tenant at a time; more get 429")
      ->check(in_range(1, 65536))
      ->group("Limits");
  app.add_option("--queue-timeout", options->queue_timeout, "Seconds a request may wait")
      ->check(in_range(1, 86400))
      ->group("Limits");
  app.add_option("--request-timeout", options->request_timeout, "Seconds until an answer is ended")
      ->check(in_range(1, 86400))
      ->group("Limits");
  app.add_option("--sse-ping", options->sse_ping, "Seconds of silence before a stream gets a comment")
      ->check(in_range(1, 3600))
      ->group("Limits");
  app.add_option("--drain", options->drain, "Seconds running requests get when the server is stopped")
      ->check(in_range(0, 3600))
      ->group("Limits");
  app.add_option("--prefix-cache", options->prefix_cache, "Find prompts' beginnings computed before")
      ->check(one_of({"on", "off"}))
      ->group("Limits");
  app.add_flag("--no-ui", options->no_ui, "Without the web page");
}

}  // namespace ruvltra
