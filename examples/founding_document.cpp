// Every usage snippet of the project's founding document, in C++, each checked as it runs:
//   founding_document MODEL.gguf DRAFT.gguf
// MODEL needs 32 layers, so that hooks 8, 16, 24 and 28 exist:
//   ruvltra synth model.gguf --arch tiny --layers 32 --type Q8_0
//   ruvltra synth draft.gguf --arch tiny --layers 2 --type Q8_0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <ruvltra/ruvltra.hpp>
#include <string>
#include <utility>
#include <vector>

using ruvltra::AgentRouter;
using ruvltra::GenerateParams;
using ruvltra::MediumConfig;
using ruvltra::MediumModel;
using ruvltra::TokenId;
using ruvltra::Trajectory;

namespace {

const std::filesystem::path folder = std::filesystem::temp_directory_path() / "ruvltra-founding-document";
int n_failed = 0;

void check(bool holds, const char* what) {
  std::printf("%s  %s\n", holds ? "ok  " : "FAIL", what);
  n_failed += !holds;
}

template <class T>
bool succeeded(const ruvltra::Result<T>& result) {
  if (!result) std::printf("      %s\n", result.error().message.c_str());
  return result.has_value();
}

// Variants differ in presets, never in weights.
void configurations() {
  check(MediumConfig::base().sampling.temperature == 0.7f, "base: temperature 0.7");
  check(MediumConfig::base().sona_config.pattern_capacity == 50'000, "base: 50,000 patterns");
  check(MediumConfig::coder().sona_hooks.layers == std::vector{8, 16, 24, 28}, "coder: a fourth, late hook");
  check(MediumConfig::coder().sona_config.quality_threshold == 0.7f, "coder: stricter quality threshold");
  const MediumConfig agent = MediumConfig::agent();
  check(agent.sona_hooks.hnsw_m == 32, "agent: HNSW M 32");
  check(agent.sona_hooks.hnsw_ef_construction == 400, "agent: HNSW ef_construction 400");
  check(agent.sona_config.micro_lora_rank == 2, "agent: MicroLoRA rank 2");
  check(agent.enable_agent_routing, "agent: routing on");
  check(MediumConfig::base().use_paged_attention, "paged attention");
  check(MediumConfig::base().paged_config.page_size == 64, "64 tokens per page");
}

// Basic inference: tokens in, logits out, the likeliest next token.
void inference(const char* path) {
  MediumConfig config = MediumConfig::base();
  auto model = MediumModel::load(path, config);
  if (!succeeded(model)) return check(false, "load");
  const std::vector<TokenId> input_ids = *model->tokenize("Hello, world");
  std::vector<int> positions;
  for (size_t t = 0; t < input_ids.size(); ++t) positions.push_back(static_cast<int>(t));
  const auto logits = model->forward(input_ids, positions);
  if (!succeeded(logits)) return check(false, "forward");
  const auto last = logits->row(logits->n_tokens - 1);
  const auto next_token = static_cast<TokenId>(std::max_element(last.begin(), last.end()) - last.begin());
  GenerateParams greedy = model->default_params();
  greedy.temperature = 0;
  greedy.max_tokens = 1;
  greedy.raw = true;
  greedy.ignore_eos = true;
  const auto answer = model->generate("Hello, world", greedy);
  check(succeeded(answer) && answer->tokens[0] == next_token, "argmax of the last row is the greedy token");
}

// Code generation with hooks chosen by hand.
void code_generation(const char* path) {
  auto model = MediumModel::load(path, MediumConfig::coder());
  if (!succeeded(model)) return check(false, "load coder");
  check(succeeded(model->enable_sona_with_hooks(std::vector{8, 16, 24, 28})), "hooks 8, 16, 24, 28");
  GenerateParams params = model->default_params();
  params.max_tokens = 32;
  params.temperature = 0.2f;
  params.top_p = 0.95f;
  const auto output = model->generate("fn fibonacci(n: u32) -> u32 {", params);
  check(succeeded(output) && !output->tokens.empty(), "code is generated");
}

// Which agent a task belongs to; decisions are recorded by themselves.
void agent_routing(const char* path) {
  MediumConfig config = MediumConfig::agent();
  config.data_dir = folder;
  auto model = MediumModel::load(path, config);
  if (!succeeded(model) || !succeeded(model->enable_sona())) return check(false, "load agent");
  AgentRouter router(*model->sona());
  const auto decision = router.route("Implement authentication system");
  if (!succeeded(decision)) return check(false, "route");
  const std::string& agent = decision->primary.id;
  std::printf("      %s, %.2f: %s\n", agent.c_str(), decision->primary.confidence,
              decision->primary.reason.c_str());
  check(agent == "coder" || agent == "security-architect", "coder or security-architect");
  check(!decision->trained, "untrained, and it says so");
  const auto recorded = model->sona()->trajectory(decision->id);
  check(succeeded(recorded) && recorded->agent == agent, "the decision is a trajectory");
  check(succeeded(router.feedback(decision->id, {.success = true})), "feedback");
  check(*model->sona()->trajectory(decision->id)->final_quality() == 1.0, "and its quality is the outcome's");
}

// A task from its first state to its verdict, kept in the bank.
void trajectory_recording(const char* path) {
  MediumConfig config = MediumConfig::base();
  config.data_dir = folder;
  config.enable_reasoning_bank = true;
  config.sona_config.pattern_capacity = 50'000;
  auto model = MediumModel::load(path, config);
  if (!succeeded(model) || !succeeded(model->enable_sona())) return check(false, "load with the bank");
  const std::string initial_state = "write a function that parses ISO 8601 dates";
  const double quality_score = 0.9;
  Trajectory trajectory("code-generation");
  trajectory.add_state({initial_state});
  trajectory.add_action("generate_function", quality_score);
  trajectory.set_lesson("Split at T first; check the date and the time each by itself.");
  const auto id = model->sona()->record_trajectory(trajectory);
  check(succeeded(id), "the trajectory is durable");
  const auto hits = model->sona()->reasoning_bank().search(initial_state, 1);
  check(succeeded(hits) && hits->size() == 1, "its lesson is found again");
}

// A draft proposes, the model decides: the same text, sooner.
void speculative_decoding(const char* path, const char* draft) {
  GenerateParams params;
  params.max_tokens = 32;
  params.seed = 1;
  auto plain = MediumModel::load(path, MediumConfig::base());
  MediumConfig config = MediumConfig::base();
  config.use_speculative_decoding = true;
  config.speculative_config.lookahead = 4;
  config.draft_model_path = draft;
  auto model = MediumModel::load(path, config);
  if (!succeeded(plain) || !succeeded(model)) return check(false, "load with a draft");
  const auto expected = plain->generate("Once upon a time", params);
  const auto output = model->generate("Once upon a time", params);
  check(succeeded(expected) && succeeded(output) && output->tokens == expected->tokens,
        "speculation changes nothing but the speed");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL.gguf DRAFT.gguf\n", argv[0]);
    return 2;
  }
  std::filesystem::remove_all(folder);
  configurations();
  inference(argv[1]);
  code_generation(argv[1]);
  agent_routing(argv[1]);
  trajectory_recording(argv[1]);
  speculative_decoding(argv[1], argv[2]);
  std::filesystem::remove_all(folder);
  std::printf("%d failed\n", n_failed);
  return n_failed == 0 ? 0 : 1;
}
