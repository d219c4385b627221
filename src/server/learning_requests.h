// What clients tell the learning system, as HTTP and MCP both put it.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "base/json.h"
#include "ruvltra/sona.h"
#include "server/service.h"

namespace ruvltra {

// {task, context?, k?, preferSpeed?, preferCost?} -> the document of docs/routing.md.
Result<Json> route_task(Service& service, const Caller& caller, const Json& arguments);

// {request_id | decision_id | trajectory_id, quality | rating | success, correction?, accepted?, agent?,
// feedback_id?} -> {ok}. Errors: learning.not_found, request.field, learning.*.
Result<Json> give_feedback(Service& service, const Caller& caller, const Json& arguments);

// {task, agent?, steps?: [{action|name, result?, quality?, duration_ms?}], verdict?}: with a verdict or a
// quality stored at once ({id, durable: true}), else kept open ({id, durable: false}) for steps and an end.
Result<Json> post_trajectory(Service& service, const Caller& caller, const Json& arguments);
Result<Json> add_steps(Service& service, const Caller& caller, const std::string& id, const Json& arguments);
// {verdict?, quality?, success?, feedback?}
Result<Json> end_trajectory(Service& service, const Caller& caller, const std::string& id,
                            const Json& arguments);

// {query, limit?, gated?} -> the bank's items, nearest first.
Result<std::vector<PatternHit>> search_bank(Service& service, const Caller& caller, std::string_view query,
                                            int limit, bool gated);

// The state of what is learned for the caller, and the same in short, null without a learning system.
Json sona_status(Service& service, const Caller& caller);
Json sona_summary(Service& service, const Caller& caller);
// Generations of the tenant, newest first, then those of its conversations (with session_id), and which one
// is live for the tenant.
Json list_adapters(Service& service, const Caller& caller);
// {to_generation?, expected_generation?, session_id?} -> {generation, hash}
Result<Json> roll_back(Service& service, const Caller& caller, const Json& arguments);

}  // namespace ruvltra
