// The Model Context Protocol: JSON-RPC 2.0 messages in, messages out; tools for routing, trajectories,
// patterns, learned weights and chat. One dispatcher behind `ruvltra mcp` (a line each) and POST /mcp.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/service.h"

namespace ruvltra {

// Asks the work of one call to end.
class CancelToken {
 public:
  void cancel();
  bool cancelled() const { return cancelled_; }
  // Called once when the call is cancelled, at once if it has been; nullptr forgets it.
  void when_cancelled(std::function<void()> call);

 private:
  std::atomic<bool> cancelled_ = false;
  std::mutex mutex_;
  std::function<void()> call_;
};

// The calls that are being worked on, by client and id: whoever hands a cancellation on finds them here.
//
// Thread safety: all functions from any thread.
class McpCalls {
 public:
  // False if one of that key is there. A call whose cancellation came first is cancelled at once.
  bool add(const std::string& key, const std::shared_ptr<CancelToken>& token);
  void remove(const std::string& key);
  void cancel(const std::string& key);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<CancelToken>> calls_;
  std::deque<std::string> early_;  // cancelled, not seen; the last few
};

inline constexpr size_t kMaxMcpMessageBytes = size_t{4} << 20;

// Whether a message may take long: all others are answered at once, and in order.
bool is_mcp_call(std::string_view message);

// Of one client, or of one POST: then the client's name holds the posts of one client together, and without
// a name a call is cancelled by closing its connection.
//
// Thread safety: handle() and cancel_all() from any thread.
class McpSession {
 public:
  McpSession(Service& service, Caller caller, std::string client);

  // A message or, in protocol 2025-03-26, an array of them: the text of the reply, empty if there is none to
  // give. A tools/call works until it is done.
  std::string handle(std::string_view message);
  // Of a version a client names elsewhere than in initialize.
  void set_version(std::string_view version);
  void cancel_all();
  bool initialized() const { return initialized_; }  // by a message of this object's

 private:
  Json reply(const Json& message);
  Json initialize(const Json& params);
  Json call_tool(const Json& id, const Json& params);
  bool structured() const;
  std::string key_of(const Json& id) const;

  Service& service_;
  const Caller caller_;
  const std::string client_;
  std::atomic<bool> initialized_ = false;
  std::mutex mutex_;  // of what follows
  std::string version_;
  std::map<std::string, std::shared_ptr<CancelToken>> calls_;  // by the id's JSON text
};

// The tools by name, as tools/list tells them.
Json mcp_tools();

Handled mcp_post(Call& call);

}  // namespace ruvltra
