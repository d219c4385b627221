// Asks a model several things at once and prints every answer when it is complete:
//   serve_many MODEL.gguf PROMPT...
#include <cstdio>
#include <ruvltra/ruvltra.hpp>
#include <utility>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL.gguf PROMPT...\n", argv[0]);
    return 2;
  }
  const auto report = [](const ruvltra::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
  };
  auto model = ruvltra::MediumModel::load(argv[1], ruvltra::MediumConfig::coder());
  if (!model) return report(model.error());

  ruvltra::GenerateParams params = model->default_params();
  params.max_tokens = 48;
  std::vector<ruvltra::Stream> streams;
  for (int i = 2; i < argc; ++i) {
    auto stream = model->engine().stream({model->prompt(argv[i]), params, {}});
    if (!stream) return report(stream.error());
    streams.push_back(std::move(*stream));
  }
  for (ruvltra::Stream& stream : streams) {
    const ruvltra::Generation answer = stream.wait().front();
    if (answer.error) return report(*answer.error);
    std::printf("--- %zu tokens after %.3f s: %s\n%s\n", answer.tokens.size(),
                answer.timings.first_token_seconds, ruvltra::finish_reason_name(answer.finish_reason).data(),
                answer.text.c_str());
  }
  const ruvltra::EngineStats stats = model->engine().stats();
  std::printf("%llu steps for %llu tokens\n", static_cast<unsigned long long>(stats.n_steps),
              static_cast<unsigned long long>(stats.n_prefill_tokens + stats.n_decode_tokens));
  return 0;
}
