// The table of everything the server answers (docs/server.md is checked against it).
#include "server/learning_routes.h"
#include "server/mcp.h"
#include "server/openai.h"
#include "server/other_faces.h"
#include "server/service.h"
#include "server/status_routes.h"

namespace ruvltra {
namespace {

using Guard = Route::Guard;
using Needs = Route::Needs;
using Shape = ErrorShape;
using Takes = Route::Takes;

constexpr Route kRoutes[] = {
    {"GET", "/health", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, health,
     "Whether the process lives, and what it does"},
    {"GET", "/ready", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, ready,
     "200 if a request would be accepted now"},
    {"GET", "/", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, page, "The web page"},
    {"GET", "/ui/{file}", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, page, "Its files"},
    {"GET", "/metrics", Guard::kKey, Needs::kNothing, Shape::kOpenAi, metrics, "Prometheus text"},
    {"POST", "/v1/chat/completions", Guard::kKey, Needs::kModel, Shape::kOpenAi, chat_completions,
     "OpenAI chat"},
    {"POST", "/v1/completions", Guard::kKey, Needs::kModel, Shape::kOpenAi, completions,
     "OpenAI completions"},
    {"POST", "/v1/embeddings", Guard::kKey, Needs::kModel, Shape::kOpenAi, embeddings, "OpenAI embeddings",
     Takes::kLong},
    {"GET", "/v1/models", Guard::kKey, Needs::kModel, Shape::kOpenAi, list_models,
     "Names the model answers to"},
    {"GET", "/v1/models/{id}", Guard::kKey, Needs::kModel, Shape::kOpenAi, show_model, "One of them"},
    {"POST", "/tokenize", Guard::kKey, Needs::kModel, Shape::kOpenAi, tokenize, "Text to token ids"},
    {"POST", "/detokenize", Guard::kKey, Needs::kModel, Shape::kOpenAi, detokenize, "Token ids to text"},
    {"POST", "/apply-template", Guard::kKey, Needs::kModel, Shape::kOpenAi, apply_template,
     "The prompt made of messages and tools"},
    {"GET", "/v1/requests", Guard::kKey, Needs::kModel, Shape::kOpenAi, list_requests,
     "What is being answered"},
    {"DELETE", "/v1/requests/{id}", Guard::kKey, Needs::kModel, Shape::kOpenAi, cancel_request,
     "Cancels one of them"},
    {"GET", "/v1/kv/pages", Guard::kKey, Needs::kModel, Shape::kOpenAi, kv_pages, "Use of the KV cache"},
    {"GET", "/v1/stats/stream", Guard::kKey, Needs::kModel, Shape::kOpenAi, stats_stream,
     "Everything the dashboard shows, once a second (SSE)"},
    {"POST", "/v1/route", Guard::kKey, Needs::kSona, Shape::kOpenAi, route, "Which agent a task belongs to"},
    {"GET", "/v1/agents", Guard::kKey, Needs::kSona, Shape::kOpenAi, get_agents, "The agents"},
    {"PUT", "/v1/agents", Guard::kAdmin, Needs::kSona, Shape::kOpenAi, put_agents, "Replaces them"},
    {"POST", "/v1/trajectories", Guard::kKey, Needs::kSona, Shape::kOpenAi, trajectories,
     "Stores a trajectory, or begins one"},
    {"POST", "/v1/trajectories/{id}/steps", Guard::kKey, Needs::kSona, Shape::kOpenAi, trajectory_steps,
     "Adds steps to one that was begun"},
    {"POST", "/v1/trajectories/{id}/end", Guard::kKey, Needs::kSona, Shape::kOpenAi, trajectory_end,
     "Ends and stores it"},
    {"POST", "/v1/feedback", Guard::kKey, Needs::kSona, Shape::kOpenAi, feedback,
     "How good an answer, a decision or a trajectory was"},
    {"GET", "/v1/sona/status", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_status_route,
     "What was learned, as measured"},
    {"GET", "/v1/sona/metrics", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_metrics,
     "The same for @claude-flow/providers"},
    {"GET", "/v1/sona/adapters", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_adapters,
     "Generations of learned weights"},
    {"POST", "/v1/sona/learn", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_learn,
     "Tries to publish what was learned; a job"},
    {"POST", "/v1/sona/rollback", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_rollback,
     "Back to an older generation, compare-and-set"},
    {"POST", "/v1/sona/reset", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_reset,
     "Back to the model as it is"},
    {"POST", "/v1/sona/freeze", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_freeze,
     "Stops or allows publishing"},
    {"POST", "/v1/sona/export", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_export,
     "Learned weights, as a file"},
    {"POST", "/v1/sona/import", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_import,
     "Takes such a file, if the gates let it"},
    {"POST", "/v1/sona/tasks", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_tasks,
     "Another kind of work begins"},
    {"DELETE", "/v1/sona/tenant", Guard::kKey, Needs::kSona, Shape::kOpenAi, sona_delete_tenant,
     "Deletes everything of the tenant"},
    {"POST", "/v1/hnsw/search", Guard::kKey, Needs::kSona, Shape::kOpenAi, hnsw_search,
     "The bank's items near a text"},
    {"POST", "/query", Guard::kKey, Needs::kModel, Shape::kText, query,
     "One question, one answer (@claude-flow/providers)"},
    {"GET", "/stats", Guard::kKey, Needs::kModel, Shape::kOpenAi, stats,
     "Counters for @claude-flow/providers"},
    {"POST", "/feedback", Guard::kKey, Needs::kSona, Shape::kText, provider_feedback,
     "Stores a question, its answer and how good it was"},
    {"POST", "/v1/messages", Guard::kKey, Needs::kModel, Shape::kAnthropic, anthropic_messages,
     "Anthropic messages"},
    {"POST", "/v1/messages/count_tokens", Guard::kKey, Needs::kModel, Shape::kAnthropic,
     anthropic_count_tokens, "Tokens of such a request"},
    {"POST", "/api/chat", Guard::kKey, Needs::kModel, Shape::kText, ollama_chat, "Ollama chat"},
    {"POST", "/api/generate", Guard::kKey, Needs::kModel, Shape::kText, ollama_generate, "Ollama generate"},
    {"POST", "/api/embed", Guard::kKey, Needs::kModel, Shape::kText, ollama_embed, "Ollama embeddings",
     Takes::kLong},
    {"POST", "/api/embeddings", Guard::kKey, Needs::kModel, Shape::kText, ollama_embeddings,
     "Ollama embeddings, the older form", Takes::kLong},
    {"GET", "/api/tags", Guard::kKey, Needs::kModel, Shape::kText, ollama_tags, "The model, as a list"},
    {"POST", "/api/show", Guard::kKey, Needs::kModel, Shape::kText, ollama_show, "About the model"},
    {"GET", "/api/ps", Guard::kKey, Needs::kModel, Shape::kText, ollama_ps, "The model, as loaded"},
    {"GET", "/api/version", Guard::kKey, Needs::kNothing, Shape::kText, ollama_version, "The version"},
    {"POST", "/mcp", Guard::kKey, Needs::kNothing, Shape::kOpenAi, mcp_post,
     "Model Context Protocol (Streamable HTTP)"},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

}  // namespace ruvltra
