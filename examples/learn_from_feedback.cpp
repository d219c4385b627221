// An answer, a correction, and what the model is told the next time:
//   learn_from_feedback MODEL.gguf PROMPT
#include <cstdio>
#include <ruvltra/ruvltra.hpp>
#include <string>
#include <utility>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL.gguf PROMPT\n", argv[0]);
    return 2;
  }
  const auto report = [](const ruvltra::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
  };
  ruvltra::MediumConfig config = ruvltra::MediumConfig::base();
  config.sona_config.learn = ruvltra::LearnMode::kRecord;  // answers become trajectories
  config.enable_reasoning_bank = true;                     // and corrections become bank items
  // config.data_dir = "/var/lib/ruvltra";                 // empty: kept for as long as the model lives
  auto model = ruvltra::MediumModel::load(argv[1], config);
  if (!model) return report(model.error());
  if (auto enabled = model->enable_sona(); !enabled) return report(enabled.error());
  ruvltra::Sona& sona = *model->sona();

  ruvltra::GenerateParams params = model->default_params();
  params.max_tokens = 48;
  auto stream = model->engine().stream({model->prompt(argv[2]), params, {}});
  if (!stream) return report(stream.error());
  std::printf("answer: %s\n", stream->wait().front().text.c_str());

  const std::string better = "The crow kept the cheese, and the fox went home hungry.";
  if (auto told = sona.feedback(stream->id(), {.quality = 0.2, .correction = better}); !told)
    return report(told.error());

  // The next conversation on the same matter begins with what is known about it.
  auto block = sona.reasoning_bank().context_for(argv[2]);
  if (!block) return report(block.error());
  std::printf("context of %zu tokens:\n%s\n", block->n_tokens, block->text.c_str());
  std::vector<ruvltra::ChatMessage> messages = {{"system", block->text, {}}, {"user", argv[2], {}}};
  auto answer = model->generate(messages, params);
  if (!answer) return report(answer.error());
  std::printf("answer: %s\n", answer->text.c_str());

  // And how well that went moves the item's standing.
  if (auto done = sona.reasoning_bank().outcome(block->ids, 1.0); !done) return report(done.error());
  const auto item = sona.reasoning_bank().search(argv[2], 1);
  if (!item || item->empty()) return 1;
  std::printf("the item was used %u time(s), its worth is now at least %.2f\n", item->front().uses,
              item->front().lcb);
  return 0;
}
