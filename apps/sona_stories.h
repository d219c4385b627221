// What experiments on learned weights let a model tell: answers to many story requests at once, so that there
// is something to have an opinion of.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ruvltra/model.h"

namespace ruvltra {

// "Tell me a story about a X and a Y.", each pair once, in an order of the seed's. At most n.
std::vector<std::string> story_prompts(size_t n, uint64_t seed);

struct StoryOptions {
  Scope scope = {};
  std::optional<uint64_t> adapter = {};  // as Request::adapter
  int n_tokens = 48;
  bool record = true;
};
// One answer to each prompt, drawn at temperature 1 from the whole distribution with seed first_seed + i.
// Only so the model's own samples hold nothing it could learn. Many streams run at a time. Errors: those of
// Engine::stream() and of answers that failed; eval.cancelled.
Result<std::vector<Generation>> tell_stories(MediumModel& model, std::span<const std::string> prompts,
                                             uint64_t first_seed, const StoryOptions& options);

// Does it contain direct speech? A story does or does not, a third of the bundled model's do within 48
// tokens, and no single token decides it.
bool has_speech(const Generation& answer);

}  // namespace ruvltra
