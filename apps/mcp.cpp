// `mcp`: the Model Context Protocol over standard input and output, a message per line.
#include <poll.h>
#include <unistd.h>

#include <functional>
#include <mutex>

#include "base/fail.h"
#include "base/file.h"
#include "base/record_id.h"
#include "console.h"
#include "learning.h"
#include "load.h"
#include "options.h"
#include "server/fields.h"
#include "server/http_client.h"
#include "server/mcp.h"
#include "server_file.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  ModelOptions model;
  SpeculationOptions speculation;
  LearningOptions learning;
  std::string profile = "agent";
  std::string url, api_key_file;
};

// Calls `take` with every line of standard input, until it ends or a stop is asked for. A line that is too
// long is taken as far as it fits, and so refused by who reads it.
void each_line(const std::function<void(std::string)>& take) {
  std::string held;
  std::vector<char> piece(64 << 10);
  bool skipping = false;
  while (!stop_requested()) {
    pollfd events[2] = {{STDIN_FILENO, POLLIN, 0}, {stop_event(), POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[0].revents == 0) continue;
    const ssize_t n = read(STDIN_FILENO, piece.data(), piece.size());
    if (n <= 0) break;
    held.append(piece.data(), static_cast<size_t>(n));
    for (size_t end; (end = held.find('\n')) != std::string::npos;) {
      std::string line = held.substr(0, end);
      held.erase(0, end + 1);
      if (std::exchange(skipping, false)) continue;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (!line.empty()) take(std::move(line));
    }
    if (held.size() > kMaxMcpMessageBytes) {
      if (!skipping) take(held);
      skipping = true;
      held.clear();
    }
  }
  if (!held.empty() && !skipping) take(std::move(held));
}

class Output {
 public:
  void line(const std::string& text) {
    if (text.empty()) return;
    const std::lock_guard lock(mutex_);
    write_out(text + "\n");
  }

 private:
  std::mutex mutex_;
};

// Messages answered in several threads; returns when all are.
void serve_lines(const std::function<std::string(const std::string&)>& answer) {
  Output output;
  Workers workers(8, 1024);
  std::mutex mutex;
  std::condition_variable changed;
  size_t n_running = 0;
  each_line([&](std::string message) {
    if (!is_mcp_call(message)) return output.line(answer(message));
    {
      const std::lock_guard lock(mutex);
      ++n_running;
    }
    const auto work = [&, message = std::move(message)] {
      output.line(answer(message));
      const std::lock_guard lock(mutex);
      --n_running;
      changed.notify_all();
    };
    if (!workers.post(work)) work();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return n_running == 0; });
}

// The protocol version in the reply to an initialize; empty for others.
std::string agreed_version(const std::string& message, const std::string& reply) {
  if (message.find("\"initialize\"") == std::string::npos) return {};
  const auto parsed = parse_json(reply, "reply");
  if (!parsed) return {};
  const Json& version = member(member(*parsed, "result"), "protocolVersion");
  return version.is_string() ? version.get<std::string>() : std::string();
}

int hand_on(const std::string& url, const std::string& key) {
  print_note("handing messages on to " + url);
  const std::string client = new_record_id().text();  // so that a cancellation finds its call
  std::mutex mutex;
  std::string version = "2025-11-25";  // until the client has agreed on another
  serve_lines([&](const std::string& message) {
    std::vector<HttpHeader> headers = {{"Content-Type", "application/json"}, {"Mcp-Session-Id", client}};
    {
      const std::lock_guard lock(mutex);
      headers.push_back({"MCP-Protocol-Version", version});
    }
    if (!key.empty()) headers.push_back({"Authorization", "Bearer " + key});
    const auto reply = http_call("POST", url, "/mcp", message, headers);
    if (reply && reply->status < 300) {
      if (const std::string agreed = agreed_version(message, reply->body); !agreed.empty()) {
        const std::lock_guard lock(mutex);
        version = agreed;
      }
      return reply->body;
    }
    const std::string why =
        reply ? fmt::format("the server answered {}", reply->status) : reply.error().message;
    print_warning(why);
    const auto parsed = parse_json(message, "message");
    if (!parsed || !parsed->is_object() || !parsed->contains("id")) return std::string();
    return to_json(
        {{"jsonrpc", "2.0"}, {"id", (*parsed)["id"]}, {"error", {{"code", -32603}, {"message", why}}}});
  });
  return stop_requested() ? kExitInterrupted : kExitOk;
}

Result<int> mcp(const Options& options) {
  std::string key;
  if (!options.api_key_file.empty()) {
    ASSIGN_OR_RETURN(key, read_text_file(options.api_key_file, 4096));
    key = key.substr(0, key.find_first_of(" \r\n"));
  }
  if (!options.url.empty()) return hand_on(options.url, key);
  ASSIGN_OR_RETURN(const auto folder, resolve_data_dir(options.learning.data_dir));
  if (const std::string url = url_of_running_server(folder); !url.empty()) return hand_on(url, key);

  ServiceOptions settings;
  settings.profile = options.profile;
  Service service(std::move(settings));
  ASSIGN_OR_RETURN(ServedModel served,
                   load_served(options.model, options.speculation, [&](MediumConfig& config) {
                     config.engine.parallel = 4;
                     if (options.model.kv_mem.empty()) config.engine.kv_bytes = 0;
                     return apply_learning(options.learning, options.profile, config);
                   }));
  service.set_model(&served.model, {.id = served.label});
  ASSIGN_OR_RETURN(Sona* const sona, start_sona(served.model, !options.model.no_progress));
  service.set_sona(sona);
  McpSession session(service, {}, "stdio");
  serve_lines([&](const std::string& message) { return session.handle(message); });
  service.jobs().stop();
  service.blocking().stop();
  return stop_requested() ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_mcp_verb(Program& program) {
  auto options = std::make_shared<Options>();
  options->learning.learn = "record";
  CLI::App& app =
      program.add_verb("mcp", "Tools for agents over standard input and output (Model Context Protocol)",
                       "  claude mcp add ruvltra -- ruvltra mcp\n"
                       "  ruvltra mcp --url http://127.0.0.1:8080\n",
                       [options] { return mcp(*options); });
  add_model_options(app, options->model);
  add_kv_mem_option(app, options->model.kv_mem);
  add_speculation_options(app, options->speculation);
  app.add_option("--profile", options->profile, "Sampling and learning presets")
      ->check(one_of({"base", "coder", "agent"}));
  add_data_dir_option(app, options->learning.data_dir);
  app.add_option("--learn", options->learning.learn, "on, record or off")
      ->check(one_of({"off", "record", "on"}))
      ->group("Learning");
  app.add_option("--url", options->url,
                 "A running server to hand messages on to; found by itself where it has the data folder")
      ->type_name("URL");
  app.add_option("--api-key-file", options->api_key_file,
                 "A file whose first word is the key for that server")
      ->type_name("FILE");
}

}  // namespace ruvltra
