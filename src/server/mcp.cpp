#include "server/mcp.h"

#include <algorithm>
#include <array>

#include "base/fail.h"
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
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(to_json(member(params, "requestId")));
    if (found != calls_.end()) found->second->cancel();
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
  Result<Json> result =
      run_mcp_tool(*tool, service_, caller_, given.is_null() ? Json::object() : given, *token);
  {
    const std::lock_guard lock(mutex_);
    calls_.erase(key);
  }
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
  const auto session = std::make_shared<McpSession>(call.service, call.caller);
  const std::string_view version = call.request().header("mcp-protocol-version");
  session->set_version(version.empty() ? kVersions[1] : version);
  if (!version.empty() && std::find(kVersions.begin(), kVersions.end(), version) == kVersions.end())
    return fail(ErrorKind::kUsage, "request.field",
                "MCP-Protocol-Version: expected one of this server's, found {}", quoted(version));
  const auto exchange = call.exchange;
  exchange->when_closed([session] { session->cancel_all(); });
  RETURN_IF_ERROR(call.service.blocking().post([session, exchange] {
    std::string reply = session->handle(exchange->request().body);
    if (reply.empty()) return exchange->respond({.status = 202, .content_type = {}});
    exchange->respond({.body = std::move(reply)});
  }));
  return std::nullopt;
}

}  // namespace ruvltra
