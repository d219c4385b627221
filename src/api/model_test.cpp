#include "ruvltra/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "engine/sampler.h"
#include "gguf/reader.h"
#include "model/weights.h"
#include "text/stream_text.h"

namespace ruvltra {
namespace {

const std::filesystem::path kModel = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models" / "nano-q8_0.gguf";
constexpr std::string_view kOpening = "Once upon a time there was an old king who had three sons";

MediumConfig small_config() {
  MediumConfig config;
  config.context_length = 512;
  config.n_threads = 2;
  config.engine.parallel = 4;
  return config;
}

GenerateParams params(int max_tokens, uint64_t seed = 7) {
  GenerateParams out;
  out.max_tokens = max_tokens;
  out.seed = seed;
  out.raw = true;
  return out;
}

Request request(std::string_view text, GenerateParams generate) {
  return {std::string(text), std::move(generate), {}};
}

class ModelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto loaded = MediumModel::load(kModel, small_config());
    ASSERT_TRUE(loaded) << loaded.error().message;
    model = new MediumModel(std::move(*loaded));
  }
  static void TearDownTestSuite() { delete model; }
  static MediumModel* model;
};
MediumModel* ModelTest::model = nullptr;

MediumModel load(const MediumConfig& config) { return std::move(*MediumModel::load(kModel, config)); }

// A plain loop: every token is drawn from the last row of forward() over all tokens before it.
Generation answer_by_rows(MediumModel& model, std::string_view text, const GenerateParams& params) {
  const std::vector<TokenId> prompt = *model.tokenize(text);
  std::vector<TokenId> tokens = prompt;
  const auto n_vocab = static_cast<size_t>(model.config().vocab_size);
  Sampler sampler = std::move(*Sampler::create(params, n_vocab, {}));
  sampler.accept_prompt(prompt);
  StreamText stream(params.stop);
  Generation out;
  while (out.tokens.size() < static_cast<size_t>(params.max_tokens) && !stream.stopped()) {
    const Logits logits = *model.forward(tokens);
    out.logprobs.push_back(
        *sampler.sample(logits.row(tokens.size() - 1), static_cast<uint32_t>(tokens.size()), 0));
    out.tokens.push_back(out.logprobs.back().token);
    sampler.accept(out.tokens.back());
    tokens.push_back(out.tokens.back());
    out.text += stream.push(model.token_bytes(out.tokens.back()));
  }
  out.finish_reason = stream.stopped() ? FinishReason::kStop : FinishReason::kLength;
  out.text += stream.finish();
  return out;
}

TEST_F(ModelTest, AnswersAreDrawnFromTheRowsOfForward) {
  auto asked = params(40);
  asked.n_logprobs = 2;
  asked.repeat_penalty = 1.1f;
  for (const std::vector<std::string>& stop : {std::vector<std::string>{}, {"king's", "horse"}}) {
    asked.stop = stop;
    const Generation expected = answer_by_rows(*model, kOpening, asked);
    const auto found = model->generate(kOpening, asked);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->text, expected.text);
    EXPECT_EQ(found->tokens, expected.tokens);
    EXPECT_EQ(found->finish_reason, expected.finish_reason);
    ASSERT_EQ(found->logprobs.size(), expected.logprobs.size());
    for (size_t i = 0; i < found->logprobs.size(); ++i)
      EXPECT_EQ(found->logprobs[i].logprob, expected.logprobs[i].logprob);
  }
}

TEST_F(ModelTest, ADrawnSeedGivesTheAnswerAgain) {
  auto asked = params(24);
  asked.seed.reset();
  const auto drawn = model->generate(kOpening, asked);
  ASSERT_TRUE(drawn);
  EXPECT_EQ(drawn->tokens, model->generate(kOpening, params(24, drawn->seed))->tokens);
  EXPECT_NE(drawn->tokens, model->generate(kOpening, params(24, drawn->seed + 1))->tokens);
}

TEST_F(ModelTest, AnswersEndWithTheContext) {
  MediumConfig config = small_config();
  const size_t n_prompt = model->tokenize(kOpening)->size();
  config.context_length = static_cast<int>(n_prompt + 5);
  MediumModel own = load(config);
  const auto found = own.generate(kOpening, params(1000));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->tokens.size(), 5u);
  EXPECT_EQ(found->finish_reason, FinishReason::kLength);
  config.context_length = static_cast<int>(n_prompt);
  MediumModel full = load(config);
  EXPECT_EQ(full.generate(kOpening, params(1)).error().id, "request.too_long");
}

TEST_F(ModelTest, ChatPassesThroughTheTemplate) {
  const std::vector<ChatMessage> messages = {{"user", "Tell me a story.", {}}};
  auto asked = params(16);
  asked.raw = false;
  const auto as_text = model->generate("Tell me a story.", asked);
  const auto as_chat = model->generate(messages, asked);
  ASSERT_TRUE(as_text && as_chat);
  EXPECT_EQ(as_text->tokens, as_chat->tokens);
  EXPECT_EQ(as_chat->n_prompt, model->tokenize(messages)->size());
  asked.raw = true;
  EXPECT_NE(model->generate("Tell me a story.", asked)->n_prompt, as_chat->n_prompt);
}

TEST_F(ModelTest, EventsMakeUpTheGenerations) {
  auto asked = params(20);
  asked.n = 3;
  Stream stream = std::move(*model->engine().stream(request(kOpening, asked)));
  EXPECT_EQ(stream.seed(), 7u);
  std::vector<std::string> texts(3);
  std::vector<size_t> n_tokens(3), n_final(3);
  while (const auto event = stream.next()) {
    const auto choice = static_cast<size_t>(event->choice);
    EXPECT_EQ(n_final[choice], 0u);
    texts[choice] += event->text;
    n_tokens[choice] += event->token.has_value();
    n_final[choice] += event->generation != nullptr;
  }
  EXPECT_TRUE(stream.finished());
  const auto generations = stream.generations();
  for (size_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(n_final[choice], 1u);
    EXPECT_EQ(texts[choice], generations[choice].text);
    EXPECT_EQ(n_tokens[choice], generations[choice].tokens.size());
    EXPECT_EQ(*model->detokenize(generations[choice].tokens), generations[choice].text);
  }
  EXPECT_NE(generations[0].tokens, generations[1].tokens);
  EXPECT_EQ(generations[0].tokens, model->generate(kOpening, params(20))->tokens);
}

TEST_F(ModelTest, PollingReadersAreWoken) {
  struct Bell {
    std::mutex mutex;
    std::condition_variable woken;
    bool rung = false;
  };
  const auto bell = std::make_shared<Bell>();
  Stream stream = std::move(*model->engine().stream(request(kOpening, params(20)), [bell] {
    const std::lock_guard lock(bell->mutex);
    bell->rung = true;
    bell->woken.notify_one();
  }));
  std::string text;
  while (!stream.finished()) {
    {
      std::unique_lock lock(bell->mutex);
      bell->woken.wait(lock, [&] { return bell->rung; });
      bell->rung = false;
    }
    while (const auto event = stream.poll()) text += event->text;
  }
  EXPECT_EQ(text, model->generate(kOpening, params(20))->text);
}

TEST_F(ModelTest, SinksGetEveryEventAndMayStop) {
  std::promise<Generation> whole, cut;
  std::string text;
  ASSERT_TRUE(model->engine().submit(request(kOpening, params(20)), [&](const Event& event) {
    text += event.text;
    if (event.generation != nullptr) whole.set_value(*event.generation);
    return true;
  }));
  size_t n_events = 0;
  ASSERT_TRUE(model->engine().submit(request(kOpening, params(400)), [&](const Event& event) {
    if (event.generation != nullptr) cut.set_value(*event.generation);
    return ++n_events < 3;
  }));
  EXPECT_EQ(whole.get_future().get().text, text);
  const Generation stopped = cut.get_future().get();
  EXPECT_EQ(stopped.finish_reason, FinishReason::kCancelled);
  EXPECT_GE(stopped.tokens.size(), 3u);
  EXPECT_EQ(n_events, 4u);
}

// Two paused requests fill all places; the third gets one of them.
TEST_F(ModelTest, ASlowReaderHoldsUpNobody) {
  MediumConfig config = small_config();
  config.engine.parallel = 2;
  config.engine.stream_tokens = 4;
  MediumModel own = load(config);
  std::vector<Stream> sleepers;
  for (const uint64_t seed : {1, 2})
    sleepers.push_back(std::move(*own.engine().stream(request(kOpening, params(300, seed)))));
  const auto quick = own.generate(kOpening, params(30));
  ASSERT_TRUE(quick) << quick.error().message;
  EXPECT_EQ(quick->tokens, model->generate(kOpening, params(30))->tokens);
  EXPECT_EQ(own.engine().stats().n_cancelled, 0u);
  EXPECT_EQ(sleepers[1].wait().front().tokens, model->generate(kOpening, params(300, 2))->tokens);
}

TEST_F(ModelTest, WhoNeverReadsIsCancelled) {
  MediumConfig config = small_config();
  config.engine.stream_tokens = 4;
  config.engine.slow_reader_seconds = 0.05f;
  MediumModel own = load(config);
  Stream sleeper = std::move(*own.engine().stream(request(kOpening, params(300))));
  for (int i = 0; i < 500 && own.engine().stats().n_cancelled == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Generation late = sleeper.wait().front();
  EXPECT_EQ(late.finish_reason, FinishReason::kCancelled);
  ASSERT_TRUE(late.error);
  EXPECT_EQ(late.error->id, "request.slow_reader");
  EXPECT_EQ(late.tokens.size(), 4u);
}

// Paused and read again, an answer is what it always is.
TEST_F(ModelTest, AReaderMayPause) {
  MediumConfig config = small_config();
  config.engine.stream_tokens = 2;
  MediumModel own = load(config);
  Stream stream = std::move(*own.engine().stream(request(kOpening, params(30))));
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_LE(own.engine().stats().n_decode_tokens, 3u);
  const auto found = stream.wait().front();
  EXPECT_EQ(found.tokens, model->generate(kOpening, params(30))->tokens);
}

TEST_F(ModelTest, CancelAndForgottenStreamsGiveTheirPagesBack) {
  MediumModel own = load(small_config());
  {
    Stream forgotten = std::move(*own.engine().stream(request(kOpening, params(400))));
    EXPECT_TRUE(forgotten.next());
  }
  Stream stream = std::move(*own.engine().stream(request(kOpening, params(400, 8))));
  EXPECT_TRUE(stream.next());
  stream.cancel();
  const auto answer = stream.wait().front();
  EXPECT_EQ(answer.finish_reason, FinishReason::kCancelled);
  EXPECT_FALSE(answer.error);
  for (int i = 0; i < 200 && own.engine().stats().n_cancelled < 2; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const EngineStats stats = own.engine().stats();
  EXPECT_EQ(stats.n_cancelled, 2u);
  EXPECT_EQ(stats.n_pages_private, 0u);
  EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, stats.n_pages);
}

TEST_F(ModelTest, ShuttingDownEndsEveryRequestOnce) {
  std::atomic<int> n_final = 0, n_stopped = 0;
  {
    MediumModel own = load(small_config());
    for (uint64_t i = 0; i < 12; ++i) {
      ASSERT_TRUE(own.engine().submit(request(kOpening, params(450, i)), [&](const Event& event) {
        if (event.generation == nullptr) return true;
        ++n_final;
        n_stopped += event.generation->error && event.generation->error->id == "engine.stopped";
        return true;
      }));
    }
  }
  EXPECT_EQ(n_final, 12);
  EXPECT_GT(n_stopped, 0);
}

TEST_F(ModelTest, TimeoutsAndFullQueues) {
  MediumConfig config = small_config();
  config.engine.parallel = 1;
  config.engine.queue = 1;
  MediumModel own = load(config);
  Request slow = request(kOpening, params(490));
  slow.treatment.timeout_seconds = 0.03;
  Stream first = std::move(*own.engine().stream(slow));
  EXPECT_FALSE(own.engine().stats().full);
  Stream second = std::move(*own.engine().stream(slow));
  EXPECT_TRUE(own.engine().stats().full);
  const auto refused = own.engine().stream(slow);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().id, "engine.queue_full");
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(second.wait().front().finish_reason, FinishReason::kTimeout);
  const auto late = first.wait().front();
  EXPECT_TRUE(late.finish_reason == FinishReason::kTimeout || late.tokens.size() == 490);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(own.generate(kOpening, params(2))) << "room again";
}

TEST_F(ModelTest, BadRequestsAreRefused) {
  const auto id_of = [&](Request bad) -> std::string {
    auto stream = model->engine().stream(std::move(bad));
    return stream ? "accepted" : std::string(stream.error().id);
  };
  EXPECT_EQ(id_of(request("", params(5))), "request.empty_prompt");
  EXPECT_EQ(id_of({std::vector<ChatMessage>{}, params(5), {}}), "request.empty_prompt");
  EXPECT_EQ(id_of({std::vector<TokenId>(512, 1), params(5), {}}), "request.too_long");
  EXPECT_EQ(id_of({std::vector<TokenId>{1, 4096}, params(5), {}}), "request.token");
  EXPECT_EQ(id_of({std::vector<TokenId>{-1}, params(5), {}}), "request.token");
  EXPECT_EQ(id_of(request(kOpening, params(0))), "request.max_tokens");
  EXPECT_EQ(id_of(request("\xff", params(5))), "tokenizer.invalid_utf8");
  auto bad = params(5);
  bad.n = 5;  // more than are computed together
  EXPECT_EQ(id_of(request(kOpening, bad)), "request.n");
  bad = params(5);
  bad.temperature = -1;
  EXPECT_EQ(id_of(request(kOpening, bad)), "config.temperature");
  bad = params(5);
  bad.logit_bias = {{5000, 1.0f}};
  EXPECT_EQ(id_of(request(kOpening, bad)), "sampler.range");
  Request timeless = request(kOpening, params(5));
  timeless.treatment.timeout_seconds = -1;
  EXPECT_EQ(id_of(timeless), "request.timeout");
  EXPECT_EQ(model
                ->generate(kOpening,
                           [] {
                             auto two = params(5);
                             two.n = 2;
                             return two;
                           }())
                .error()
                .id,
            "request.n");
  MediumConfig tiny = small_config();
  tiny.engine.kv_bytes = 4 * model->engine().stats().page_bytes;  // one per sequence
  MediumModel own = load(tiny);
  EXPECT_EQ(own.generate(kOpening, params(300)).error().id, "request.too_long");
  tiny.engine.kv_bytes -= 1;
  EXPECT_EQ(MediumModel::load(kModel, tiny).error().id, "config.engine.kv_bytes");
  tiny.engine.kv_bytes = SIZE_MAX;
  EXPECT_EQ(MediumModel::load(kModel, tiny).error().id, "config.engine.kv_bytes");
  tiny.engine.kv_bytes = size_t{1} << 40;
  EXPECT_EQ(MediumModel::load(kModel, tiny).error().id, "memory.limit");
  tiny.engine.parallel = 0;
  EXPECT_EQ(MediumModel::load(kModel, tiny).error().id, "config.engine.parallel");
}

TEST_F(ModelTest, EndTokensCanBeIgnored) {
  const TokenId end = model->tokenize("<|im_end|>", true)->front();
  auto asked = params(6);
  asked.logit_bias = {{end, 100.0f}};
  EXPECT_EQ(model->generate(kOpening, asked)->finish_reason, FinishReason::kStop);
  asked.ignore_eos = true;
  const auto found = model->generate(kOpening, asked);
  EXPECT_EQ(found->finish_reason, FinishReason::kLength);
  EXPECT_EQ(found->tokens, std::vector<TokenId>(6, end));
  EXPECT_EQ(found->text, "");
}

// 100 tokens of a prompt and 3 of 4 answers have been computed when the last one is drawn.
TEST_F(ModelTest, PagesInUseAreCountedPerHolder) {
  MediumModel own = load(small_config());
  auto asked = params(4);
  asked.n = 2;
  std::move(*own.engine().stream({std::vector<TokenId>(100, 11), asked, {}})).wait();
  while (own.engine().stats().n_finished < 2) std::this_thread::yield();
  const PageUse use = own.engine().stats().page_use;
  EXPECT_EQ(use.n_sequences, 2u);
  EXPECT_EQ(use.n_held, 3u);
  EXPECT_EQ(use.n_listed, 4u);
  EXPECT_EQ(use.n_positions, 2u * 103u);
}

TEST_F(ModelTest, CachedPromptsAreCounted) {
  MediumModel own = load(small_config());
  const std::vector<TokenId> prompt(200, 11);
  const auto ask = [&](std::string tenant, std::string salt, bool use_cache) {
    Request asked{prompt, params(4), {}};
    asked.treatment.tenant = std::move(tenant);
    asked.treatment.cache_salt = std::move(salt);
    asked.treatment.use_cache = use_cache;
    return std::move(*own.engine().stream(std::move(asked))).wait().front();
  };
  const auto cold = ask("a", "", true);
  EXPECT_EQ(cold.n_cached, 0u);
  const auto warm = ask("a", "", true);
  EXPECT_EQ(warm.n_cached, 192u);
  EXPECT_EQ(warm.tokens, cold.tokens);
  EXPECT_EQ(ask("b", "", true).n_cached, 0u);
  EXPECT_EQ(ask("a", "x", true).n_cached, 0u);
  EXPECT_EQ(ask("a", "", false).n_cached, 0u);
  EXPECT_EQ(own.engine().stats().n_cached_tokens, 192u);
}

TEST_F(ModelTest, ForwardGivesTheRowsAnswersAreDrawnFrom) {
  const auto tokens = *model->tokenize(kOpening);
  const auto logits = model->forward(tokens);
  ASSERT_TRUE(logits);
  EXPECT_EQ(logits->n_tokens, tokens.size());
  auto greedy = params(1);
  greedy.temperature = 0;
  const auto row = logits->row(tokens.size() - 1);
  EXPECT_EQ(model->generate(kOpening, greedy)->tokens[0],
            std::max_element(row.begin(), row.end()) - row.begin());
  std::vector<int> positions(tokens.size());
  for (size_t t = 0; t < tokens.size(); ++t) positions[t] = static_cast<int>(t);
  EXPECT_EQ(model->forward(tokens, positions)->values, logits->values);
  positions.back() += 1;
  EXPECT_EQ(model->forward(tokens, positions).error().id, "request.positions");
  positions.pop_back();
  EXPECT_EQ(model->forward(tokens, positions).error().id, "request.positions");
  EXPECT_EQ(model->forward({}).error().id, "request.empty_prompt");
}

TEST_F(ModelTest, WhatIsNotBuiltIsRefused) {
  MediumConfig plain = small_config();
  plain.use_flash_attention = !plain.use_flash_attention;
  EXPECT_EQ(MediumModel::load(kModel, plain).error().id, "config.not_built");
}

// Bit for bit the same in steps of any size, and beside requests.
TEST_F(ModelTest, EmbeddingsPoolTheResidualStream) {
  MediumConfig config = small_config();
  config.engine.step_rows = 12;
  config.n_threads = 1;
  MediumModel chunked = load(config);
  Stream beside = std::move(*chunked.engine().stream(request(kOpening, params(100))));
  const std::string text = std::string(kOpening) + ", " + std::string(kOpening);
  for (const int layer : {0, 2, -1}) {
    for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
      const auto whole = model->embed(text, layer, pooling);
      const auto pieces = chunked.embed(text, layer, pooling);
      ASSERT_TRUE(whole && pieces);
      ASSERT_EQ(whole->size(), 256u);
      EXPECT_EQ(std::memcmp(whole->data(), pieces->data(), 256 * sizeof(float)), 0) << layer;
    }
  }
  EXPECT_EQ(beside.wait().front().tokens, model->generate(kOpening, params(100))->tokens);
  EXPECT_EQ(*model->embed(text, 3), *model->embed(text, -1));
  EXPECT_NE(*model->embed(text, 2), *model->embed(text, 3));
  // Of one token, the mean is the last.
  const std::vector<TokenId> one = {42};
  EXPECT_EQ(*model->embed(one, 1, Pooling::kMean), *model->embed(one, 1, Pooling::kLast));
  EXPECT_EQ(model->embed(text, 4).error().id, "request.layer");
  EXPECT_EQ(model->embed("", 0).error().id, "request.empty_prompt");
}

TEST_F(ModelTest, StatsCountWhatHappened) {
  MediumModel own = load(small_config());
  const auto answer = own.generate(kOpening, params(12));
  for (int i = 0; i < 100 && own.engine().stats().n_finished < 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const EngineStats stats = own.engine().stats();
  EXPECT_EQ(stats.n_submitted, 1u);
  EXPECT_EQ(stats.n_finished, 1u);
  EXPECT_EQ(stats.n_steps, 12u);
  EXPECT_EQ(stats.n_prefill_tokens, answer->n_prompt);
  EXPECT_EQ(stats.n_decode_tokens, 11u);
  EXPECT_EQ(stats.n_prompt_tokens, answer->n_prompt);
  EXPECT_GT(stats.forward_seconds, 0.0);
  EXPECT_EQ(stats.n_running + stats.n_queued, 0u);
  const Timings& timings = answer->timings;
  EXPECT_GT(timings.prompt_seconds, 0.0);
  EXPECT_GE(timings.first_token_seconds, timings.prompt_seconds);
  EXPECT_GT(timings.generate_seconds, 0.0);
}

TEST_F(ModelTest, LoadOptionsChangeNoAnswer) {
  LoadOptions options;
  options.map_file = true;
  options.tune = false;
  options.pin_threads = true;
  std::vector<uint64_t> done;
  uint64_t whole = 0;
  options.on_progress = [&](uint64_t n, uint64_t total) {
    done.push_back(n);
    whole = total;
    return true;
  };
  auto own = MediumModel::load(kModel, small_config(), options);
  ASSERT_TRUE(own) << own.error().message;
  EXPECT_EQ(own->generate(kOpening, params(20))->tokens, model->generate(kOpening, params(20))->tokens);
  ASSERT_GT(done.size(), 1u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_LE(whole, std::filesystem::file_size(kModel));
  EXPECT_GT(done.back(), whole / 2);
  options.on_progress = [](uint64_t, uint64_t) { return false; };
  EXPECT_EQ(MediumModel::load(kModel, small_config(), options).error().id, "model.cancelled");
}

TEST_F(ModelTest, WhatTheFileIs) {
  EXPECT_EQ(model->sha256(), to_hex(*file_sha256(*GgufFile::open(kModel))));
  EXPECT_TRUE(*model->has_chat_template());
  EXPECT_TRUE(model->warnings().empty());
  const TokenId control = model->tokenize("<|im_end|>", true)->front();
  EXPECT_EQ(model->token_bytes(control), "<|im_end|>");
  EXPECT_EQ(model->token_bytes(-1), "");
  EXPECT_EQ(model->token_bytes(model->config().vocab_size), "");

  // Bytes after the last tensor are no reason to refuse a file, but one to say so.
  const auto longer = std::filesystem::temp_directory_path() / "ruvltra_model_test_longer.gguf";
  std::filesystem::copy_file(kModel, longer, std::filesystem::copy_options::overwrite_existing);
  std::filesystem::resize_file(longer, std::filesystem::file_size(longer) + 224);
  const auto loaded = MediumModel::load(longer, small_config());
  std::filesystem::remove(longer);
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->warnings().size(), 1u);
  EXPECT_NE(loaded->warnings()[0].find("224 bytes after the last tensor"), std::string::npos);
}

TEST_F(ModelTest, PromptsReportHowFarTheyAre) {
  MediumConfig config = small_config();
  config.engine.step_rows = 12;
  MediumModel own = load(config);
  const std::vector<TokenId> prompt(500, 11);
  bool seen_halfway = false;
  for (int attempt = 0; attempt < 100 && !seen_halfway; ++attempt) {
    Request asked{prompt, params(2), {}};
    asked.treatment.use_cache = false;
    Stream stream = std::move(*own.engine().stream(std::move(asked)));
    size_t last = 0;
    for (bool answering = false; !answering;) {
      answering = stream.poll().has_value();
      const PromptProgress progress = stream.prompt_progress();
      EXPECT_EQ(progress.n_total, prompt.size());
      ASSERT_GE(progress.n_done, last);
      ASSERT_LE(progress.n_done, progress.n_total);
      last = progress.n_done;
      seen_halfway = seen_halfway || (last > 0 && last < prompt.size());
      std::this_thread::yield();
    }
    ASSERT_EQ(last, prompt.size());
  }
  EXPECT_TRUE(seen_halfway);
  Stream again = std::move(*own.engine().stream({prompt, params(2), {}}));
  EXPECT_TRUE(again.next());
  EXPECT_EQ(again.prompt_progress().n_done, prompt.size());
}

}  // namespace
}  // namespace ruvltra
