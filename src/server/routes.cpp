// The table of everything the server answers (docs/server.md is checked against it).
#include "server/openai.h"
#include "server/service.h"
#include "server/status_routes.h"

namespace ruvltra {
namespace {

using Guard = Route::Guard;
using Needs = Route::Needs;
using Shape = ErrorShape;

constexpr Route kRoutes[] = {
    {"GET", "/health", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, health,
     "Whether the process lives, and what it does"},
    {"GET", "/ready", Guard::kOpen, Needs::kNothing, Shape::kOpenAi, ready,
     "200 if a request would be accepted now"},
    {"GET", "/metrics", Guard::kKey, Needs::kNothing, Shape::kOpenAi, metrics, "Prometheus text"},
    {"POST", "/v1/chat/completions", Guard::kKey, Needs::kModel, Shape::kOpenAi, chat_completions,
     "OpenAI chat"},
    {"POST", "/v1/completions", Guard::kKey, Needs::kModel, Shape::kOpenAi, completions,
     "OpenAI completions"},
    {"POST", "/v1/embeddings", Guard::kKey, Needs::kModel, Shape::kOpenAi, embeddings, "OpenAI embeddings"},
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
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

}  // namespace ruvltra
