#include "sona_stories.h"

#include <algorithm>
#include <deque>
#include <random>
#include <string_view>

#include "base/fail.h"
#include "console.h"

namespace ruvltra {
namespace {

constexpr size_t kAtOnce = 32;  // streams in the engine

constexpr std::string_view kNouns[] = {
    "fox",   "crow",  "king",     "wolf",  "cat",   "dog",    "bear",  "princess", "miller", "tailor",
    "goose", "mouse", "lion",     "raven", "hare",  "witch",  "giant", "shepherd", "bird",   "fish",
    "queen", "boy",   "girl",     "horse", "hen",   "donkey", "frog",  "tree",     "river",  "mountain",
    "ring",  "apple", "needle",   "spoon", "clock", "drum",   "lamp",  "soldier",  "thief",  "gardener",
    "nurse", "clown", "merchant", "stone", "snake", "rose",   "star",  "fiddler"};

std::string with_article(std::string_view noun) {
  return fmt::format(
      "{} {}", std::string_view("aeiou").find(noun.front()) == std::string_view::npos ? "a" : "an", noun);
}

}  // namespace

std::vector<std::string> story_prompts(size_t n, uint64_t seed) {
  std::vector<std::string> all;
  for (const std::string_view one : kNouns) {
    for (const std::string_view other : kNouns) {
      if (one == other) continue;
      all.push_back(fmt::format("Tell me a story about {} and {}.", with_article(one), with_article(other)));
    }
  }
  std::mt19937_64 random(seed);
  for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random() % i]);
  all.resize(std::min(n, all.size()));
  return all;
}

Result<std::vector<Generation>> tell_stories(MediumModel& model, std::span<const std::string> prompts,
                                             uint64_t first_seed, const StoryOptions& options) {
  std::vector<Generation> answers;
  std::deque<Stream> running;
  const auto take_one = [&]() -> Result<void> {
    Generation answer = std::move(running.front().wait().front());
    running.pop_front();
    if (answer.error) return tl::unexpected(*answer.error);
    answers.push_back(std::move(answer));
    return {};
  };
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (stop_requested())
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
    Request request;
    request.prompt = model.prompt(prompts[i]);
    request.params.temperature = 1;
    request.params.top_p = 1;
    request.params.max_tokens = options.n_tokens;
    request.params.seed = first_seed + i;
    request.treatment.tenant = options.scope.tenant;
    request.treatment.session = options.scope.session;
    request.treatment.record = options.record;
    request.treatment.task = prompts[i];
    request.adapter = options.adapter;
    if (running.size() == kAtOnce) RETURN_IF_ERROR(take_one());
    ASSIGN_OR_RETURN(Stream stream, model.engine().stream(std::move(request)));
    running.push_back(std::move(stream));
  }
  while (!running.empty()) RETURN_IF_ERROR(take_one());
  return answers;
}

bool has_speech(const Generation& answer) {
  return answer.text.find('"') != std::string::npos || answer.text.find("\u201c") != std::string::npos;
}

}  // namespace ruvltra
