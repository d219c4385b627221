#include "server/mcp.h"

#include <algorithm>
#include <array>

#include "base/fail.h"
#include "base/record_id.h"
#include "server/fields.h"
#include "server/mcp_tools.h"

namespace ruvltra {
namespace {

// Newest last.
constexpr std::array<std::string_view, 4> kVersions = {"2024-11-05", "2025-03-26", "2025-06-18",
                                                       "2025-11-25"};

enum RpcError { kParse = -32700, kInvalid = -32600, kNoMethod = -32601, kBadParams = -32602 };

Json error_reply(const Json& id, int code, std::string_view message) {
  return {{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}};
}

Json result_reply(const Json& id, Json result) {
  return {{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}};
}

}  // namespace

void CancelToken::cancel() {
  cancelled_ = true;
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex_);
    call = std::exchange(call_, nullptr);
  }
  if (call) call();
}

void CancelToken::when_cancelled(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    if (!cancelled_) {
      call_ = std::move(call);
      return;
    }
  }
  if (call) call();
}

bool McpCalls::add(const std::string& key, const std::shared_ptr<CancelToken>& token) {
  const std::lock_guard lock(mutex_);
  if (!calls_.emplace(key, token).second) return false;
  if (std::erase(early_, key) > 0) token->cancel();
  return true;
}

void McpCalls::remove(const std::string& key) {
  const std::lock_guard lock(mutex_);
  calls_.erase(key);
}

void McpCalls::cancel(const std::string& key) {
  constexpr size_t kMaxEarly = 64;
  std::shared_ptr<CancelToken> token;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = calls_.find(key); found != calls_.end()) {
      token = found->second;
    } else {
      early_.push_back(key);
      if (early_.size() > kMaxEarly) early_.pop_front();
    }
  }
  if (token) token->cancel();
}

bool is_mcp_call(std::string_view message) {
  return message.find("\"tools/call\"") != std::string_view::npos;
}

McpSession::McpSession(Service& service, Caller caller, std::string client)
    : service_(service), caller_(std::move(caller)), client_(std::move(client)) {}

std::string McpSession::key_of(const Json& id) const {
  return caller_.tenant + '\n' + client_ + '\n' + to_json(id);
}

void McpSession::set_version(std::string_view version) {
  const std::lock_guard lock(mutex_);
  version_ = version;
}

bool McpSession::structured() const { return version_ >= kVersions[2]; }

void McpSession::cancel_all() {
  std::map<std::string, std::shared_ptr<CancelToken>> calls;
  {
    const std::lock_guard lock(mutex_);
    calls = calls_;
  }
  for (const auto& [id, token] : calls) token->cancel();
}

std::string McpSession::handle(std::string_view message) {
  auto parsed = parse_json(message, "message", {.max_bytes = kMaxMcpMessageBytes});
  if (!parsed) return to_json(error_reply(nullptr, kParse, parsed.error().message));
  if (!parsed->is_array()) {
    const Json answer = reply(*parsed);
    return answer.is_null() ? std::string() : to_json(answer);
  }
  bool batches = false;
  {
    const std::lock_guard lock(mutex_);
    batches = version_ == kVersions[1];
  }
  if (!batches || parsed->empty())
    return to_json(error_reply(nullptr, kInvalid, "expected an object, found an array"));
  Json answers = Json::array();
  for (const Json& one : *parsed) {
    Json answer = reply(one);
    if (!answer.is_null()) answers.push_back(std::move(answer));
  }
  return answers.empty() ? std::string() : to_json(answers);
}

Json McpSession::reply(const Json& message) {
  const Json& method = member(message, "method");
  const Json& id = member(message, "id");
  const Json& params = member(message, "params");
  if (member(message, "jsonrpc") != "2.0" || !(id.is_null() || id.is_string() || id.is_number()))
    return error_reply(nullptr, kInvalid, "expected a JSON-RPC 2.0 message");
  if (!method.is_string()) {
    // A reply to something this server never asks is nothing to answer.
    if (message.contains("result") || message.contains("error")) return nullptr;
    return error_reply(id, kInvalid, "method: expected a string");
  }
  const auto& name = method.get_ref<const std::string&>();
  const bool is_notification = !message.contains("id");
  if (name == "notifications/cancelled") {
    if (!client_.empty()) service_.mcp_calls().cancel(key_of(member(params, "requestId")));
    return nullptr;
  }
  if (is_notification) return nullptr;
  if (name == "ping") return result_reply(id, Json::object());
  if (name == "initialize") return result_reply(id, initialize(params));
  if (name == "tools/list") return result_reply(id, {{"tools", mcp_tools()}});
  if (name == "tools/call") return call_tool(id, params);
  return error_reply(id, kNoMethod, "no such method: " + name);
}

Json McpSession::initialize(const Json& params) {
  const Json& asked = member(params, "protocolVersion");
  const auto known =
      std::find_if(kVersions.begin(), kVersions.end(), [&](std::string_view one) { return asked == one; });
  const std::string_view version = known == kVersions.end() ? kVersions.back() : *known;
  set_version(version);
  initialized_ = true;
  return {{"protocolVersion", version},
          {"capabilities", {{"tools", Json::object()}}},
          {"serverInfo", {{"name", "ruvltra"}, {"version", RUVLTRA_VERSION}}},
          {"instructions", "Route a task to an agent, remember what worked, and ask the local model."}};
}

Json McpSession::call_tool(const Json& id, const Json& params) {
  std::string name;
  if (!member(params, "name").is_string())
    return error_reply(id, kBadParams, "params.name: expected a string");
  name = member(params, "name").get<std::string>();
  const McpTool* tool = find_mcp_tool(name);
  if (tool == nullptr) return error_reply(id, kBadParams, "no such tool: " + name);
  const Json& given = member(params, "arguments");
  if (!given.is_null() && !given.is_object())
    return error_reply(id, kBadParams, "params.arguments: expected an object");
  const auto token = std::make_shared<CancelToken>();
  const std::string key = to_json(id);
  bool with_structure = false;
  {
    const std::lock_guard lock(mutex_);
    if (!calls_.emplace(key, token).second) return error_reply(id, kInvalid, "id: is in use");
    with_structure = structured();
  }
  const auto forget = [&] {
    const std::lock_guard lock(mutex_);
    calls_.erase(key);
  };
  if (!client_.empty() && !service_.mcp_calls().add(key_of(id), token)) {
    forget();
    return error_reply(id, kInvalid, "id: is in use");
  }
  Result<Json> result = Json();
  if (!token->cancelled())
    result = run_mcp_tool(*tool, service_, caller_, given.is_null() ? Json::object() : given, *token);
  if (!client_.empty()) service_.mcp_calls().remove(key_of(id));
  forget();
  if (token->cancelled()) return nullptr;  // nobody waits for it
  Json out;
  if (result) {
    out["content"] = Json::array({{{"type", "text"}, {"text", to_json(*result)}}});
    if (with_structure && result->is_object()) out["structuredContent"] = std::move(*result);
    out["isError"] = false;
  } else {
    out["content"] = Json::array({{{"type", "text"}, {"text", result.error().message}}});
    out["isError"] = true;
  }
  return result_reply(id, std::move(out));
}

Handled mcp_post(Call& call) {
  const std::string_view version = call.request().header("mcp-protocol-version");
  if (!version.empty() && std::find(kVersions.begin(), kVersions.end(), version) == kVersions.end())
    return fail(ErrorKind::kUsage, "request.field",
                "MCP-Protocol-Version: expected one of this server's, found {}", quoted(version));
  // Nothing is kept under a client's name but its running calls, so that any name will do.
  const std::string_view client = call.request().header("mcp-session-id");
  const auto session =
      std::make_shared<McpSession>(call.service, call.caller, std::string(client.substr(0, 128)));
  session->set_version(version.empty() ? kVersions[1] : version);
  const auto exchange = call.exchange;
  const auto work = [session, exchange] {
    std::string reply = session->handle(exchange->request().body);
    if (reply.empty()) return exchange->respond({.status = 202, .content_type = {}});
    HttpResponse response{.body = std::move(reply)};
    if (session->initialized()) response.headers.push_back({"Mcp-Session-Id", new_record_id().text()});
    exchange->respond(std::move(response));
  };
  // A cancellation does not wait behind the calls.
  if (!is_mcp_call(call.request().body)) {
    work();
    return std::nullopt;
  }
  exchange->when_closed([session] { session->cancel_all(); });
  RETURN_IF_ERROR(call.service.blocking().post(work));
  return std::nullopt;
}

}  // namespace ruvltra
