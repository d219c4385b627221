// Constrained answers through the library: they are as the schema says, and nothing that may vary (load,
// batch, speculation) changes them.
#include "ruvltra/constraint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "ruvltra/model.h"

namespace ruvltra {
namespace {

const std::filesystem::path kModels = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models";
constexpr const char* kAnimal =
    R"({"type": "object", "properties": {"animal": {"enum": ["fox", "crow"]}, "name": {"type": "string", "maxLength": 16},
        "age": {"type": "integer", "minimum": 1, "maximum": 20}, "friends": {"type": "array", "maxItems": 4,
        "items": {"type": "string", "maxLength": 8}}}, "required": ["animal", "name", "age", "friends"]})";

MediumModel load(std::optional<DraftSource> source = {}) {
  MediumConfig config;
  config.context_length = 512;
  config.n_threads = 2;
  config.engine.parallel = 4;
  if (source) {
    config.use_speculative_decoding = true;
    config.speculative_config = {.source = *source,
                                 .lookahead = 4,
                                 .acceptance_threshold = 0,
                                 .draft_temperature = 0,
                                 .adaptive = false};
    if (*source != DraftSource::kLookup) config.draft_model_path = kModels / "pico-q8_0.gguf";
  }
  auto loaded = MediumModel::load(kModels / "nano-q8_0.gguf", config, {.tune = false, .on_progress = {}});
  EXPECT_TRUE(loaded) << loaded.error().message;
  return std::move(*loaded);
}

std::vector<Request> requests() {
  std::vector<Constraint::Pointer> constraints = {
      *Constraint::from_json_schema(kAnimal), *Constraint::json_object(),
      *Constraint::tool_calls(std::vector<Constraint::Function>{{"weather", kAnimal}, {"stop", ""}}),
      nullptr};
  std::vector<Request> out;
  for (const float temperature : {0.0f, 0.7f, 1.3f}) {
    for (size_t kind = 0; kind < 8; ++kind) {
      GenerateParams params;
      params.max_tokens = 90;
      params.seed = 4 + kind;
      params.temperature = temperature;
      params.n_logprobs = 2;
      params.n = kind == 1 ? 3 : 1;
      if (kind >= 4) params.repeat_penalty = 1.1f;
      params.raw = true;
      Request request{std::string("The fox and the crow: "), params, {}};
      request.constraint = constraints[kind % constraints.size()];
      out.push_back(std::move(request));
    }
  }
  return out;
}

std::vector<Generation> together(MediumModel& model, const std::vector<Request>& requests) {
  std::vector<Stream> streams;
  std::vector<Generation> out;
  for (const Request& request : requests) streams.push_back(std::move(*model.engine().stream(request)));
  for (Stream& stream : streams)
    for (Generation& generation : stream.wait()) out.push_back(std::move(generation));
  return out;
}

std::vector<Generation> one_by_one(MediumModel& model, const std::vector<Request>& requests) {
  std::vector<Generation> out;
  for (const Request& request : requests)
    for (Generation& generation : together(model, {request})) out.push_back(std::move(generation));
  return out;
}

void expect_same(const std::vector<Generation>& a, const std::vector<Generation>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].tokens, b[i].tokens) << i << ": " << a[i].text << " / " << b[i].text;
    EXPECT_EQ(a[i].finish_reason, b[i].finish_reason);
    ASSERT_EQ(a[i].logprobs.size(), b[i].logprobs.size());
    for (size_t k = 0; k < a[i].logprobs.size(); ++k)
      EXPECT_EQ(a[i].logprobs[k].logprob, b[i].logprobs[k].logprob);
  }
}

TEST(Constraints, NothingElseChangesTheAnswer) {
  MediumModel plain = load();
  const auto asked = requests();
  const auto expected = one_by_one(plain, asked);
  {
    SCOPED_TRACE("in a batch");
    expect_same(together(plain, asked), expected);
  }
  for (const DraftSource source : {DraftSource::kLookup, DraftSource::kModel}) {
    SCOPED_TRACE(static_cast<int>(source));
    MediumModel model = load(source);
    const auto found = together(model, asked);
    expect_same(found, expected);
    size_t n_accepted = 0;
    for (size_t i = 0; i < found.size(); ++i) n_accepted += found[i].n_accepted;
    EXPECT_GT(n_accepted, 0u);
  }
}

TEST(Constraints, AnswersAreAsTheSchemaSays) {
  MediumModel model = load();
  const auto constraint = *Constraint::from_json_schema(kAnimal);
  std::vector<Request> asked;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    GenerateParams params;
    params.max_tokens = 200;
    params.seed = seed;
    params.temperature = 1.2f;
    params.n = seed == 0 ? 4 : 1;
    params.logit_bias = {{static_cast<TokenId>(seed), 100.0f}};
    Request request{model.prompt("Who is it?"), params, {}};
    request.constraint = constraint;
    asked.push_back(std::move(request));
  }
  std::vector<std::string> texts;
  for (const Generation& answer : together(model, asked)) {
    ASSERT_EQ(answer.finish_reason, FinishReason::kStop) << answer.text;
    const auto found = nlohmann::json::parse(answer.text);
    EXPECT_EQ(found.size(), 4u);
    EXPECT_TRUE(found["animal"] == "fox" || found["animal"] == "crow");
    EXPECT_TRUE(found["age"].is_number_integer() && found["age"] >= 1 && found["age"] <= 20);
    EXPECT_LE(found["friends"].size(), 4u);
    texts.push_back(answer.text);
  }
  EXPECT_FALSE(texts[0] == texts[1] && texts[1] == texts[2] && texts[2] == texts[3])
      << "n answers are drawn apart";
}

TEST(Constraints, EndAtALimitOrNotAtAll) {
  MediumModel model = load();
  GenerateParams params;
  params.max_tokens = 7;
  params.seed = 1;
  Request request{model.prompt("Who is it?"), params, {}};
  request.constraint = *Constraint::from_json_schema(R"({"type": "string", "minLength": 1000})");
  const Generation cut = together(model, {request}).front();
  EXPECT_EQ(cut.finish_reason, FinishReason::kLength);
  EXPECT_EQ(cut.tokens.size(), 7u);
  EXPECT_EQ(cut.text[0], '"');
  // Complete, and told not to end: nothing but ends may follow.
  request.params.ignore_eos = true;
  request.constraint = *Constraint::from_json_schema(R"({"const": 5})");
  const Generation full = together(model, {request}).front();
  EXPECT_EQ(full.text, "5");
  EXPECT_EQ(full.finish_reason, FinishReason::kLength);
}

TEST(Constraints, WrongOnesAreErrors) {
  const auto wrong = Constraint::from_json_schema(R"({"properties": {"a": {"pattern": "x"}}})", "request");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().id, "schema.unsupported_keyword");
  EXPECT_EQ(wrong.error().message.find("request: #\"/properties/a\": pattern: "), 0u)
      << wrong.error().message;
  EXPECT_FALSE(Constraint::tool_calls({}));
}

}  // namespace
}  // namespace ruvltra
