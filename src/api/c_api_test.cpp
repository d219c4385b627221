#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "ruvltra/c.h"

namespace {

const std::string kModel = std::string(RUVLTRA_SOURCE_DIR) + "/models/nano-q8_0.gguf";

class CApi : public testing::Test {
 protected:
  void SetUp() override {
    options.struct_bytes = sizeof options;
    options.context_length = 256;
    options.n_threads = 1;
    options.kv_type = "f16";
    ASSERT_EQ(ruvltra_model_load(kModel.c_str(), &options, &model), RUVLTRA_OK) << ruvltra_last_error();
    ruvltra_generate_params_init(model, &params);
    params.max_tokens = 12;
    params.has_seed = 1;
    params.seed = 7;
  }
  void TearDown() override { ruvltra_model_free(model); }

  ruvltra_model_options options = {};
  ruvltra_model* model = nullptr;
  ruvltra_generate_params params = {};
};

TEST_F(CApi, GeneratesChatsAndStreamsTheSame) {
  params.n_logprobs = 1;
  ruvltra_generation *generated = nullptr, *chatted = nullptr, *streamed = nullptr;
  ASSERT_EQ(ruvltra_generate(model, "Who is the king?", &params, &generated), RUVLTRA_OK);
  const ruvltra_message message = {"user", "Who is the king?"};
  ASSERT_EQ(ruvltra_chat(model, &message, 1, &params, &chatted), RUVLTRA_OK);
  ruvltra_stream* stream = nullptr;
  ASSERT_EQ(ruvltra_stream_open(model, "Who is the king?", &params, &stream), RUVLTRA_OK);
  std::string text;
  const char* piece = nullptr;
  while (ruvltra_stream_next(stream, &piece) == RUVLTRA_OK && piece != nullptr) text += piece;
  ASSERT_EQ(ruvltra_stream_wait(stream, &streamed), RUVLTRA_OK);

  EXPECT_EQ(text, ruvltra_generation_text(generated));
  EXPECT_EQ(text, ruvltra_generation_text(streamed));
  EXPECT_EQ(text, ruvltra_generation_text(chatted));
  EXPECT_STREQ(ruvltra_generation_finish_reason(generated), "length");
  EXPECT_EQ(ruvltra_generation_seed(generated), 7u);
  ASSERT_EQ(ruvltra_generation_n_tokens(generated), 12u);
  ASSERT_EQ(ruvltra_generation_n_tokens(streamed), 12u);
  EXPECT_EQ(std::memcmp(ruvltra_generation_tokens(generated), ruvltra_generation_tokens(streamed),
                        12 * sizeof(int32_t)),
            0);
  EXPECT_LT(ruvltra_generation_logprob(generated, 0), 0.0);
  EXPECT_EQ(ruvltra_generation_logprob(generated, 0), ruvltra_generation_logprob(streamed, 0));
  EXPECT_EQ(ruvltra_generation_logprob(generated, 99), 0.0);
  for (ruvltra_generation* generation : {generated, chatted, streamed}) ruvltra_generation_free(generation);
  ruvltra_stream_free(stream);
}

TEST_F(CApi, StopStrings) {
  const char* const stop[] = {"the", "and"};
  params.stop = stop;
  params.n_stop = 2;
  params.max_tokens = 200;
  ruvltra_generation* generation = nullptr;
  ASSERT_EQ(ruvltra_generate(model, "Who is the king?", &params, &generation), RUVLTRA_OK);
  EXPECT_STREQ(ruvltra_generation_finish_reason(generation), "stop");
  EXPECT_EQ(std::string(ruvltra_generation_text(generation)).find("the"), std::string::npos);
  ruvltra_generation_free(generation);
}

// Nobody reads, so that the answer waits after two tokens: it cannot end before it is cancelled.
TEST_F(CApi, AStreamMayBeCancelled) {
  options.stream_tokens = 2;
  ruvltra_model* own = nullptr;
  ASSERT_EQ(ruvltra_model_load(kModel.c_str(), &options, &own), RUVLTRA_OK) << ruvltra_last_error();
  params.max_tokens = 200;
  ruvltra_stream* stream = nullptr;
  const ruvltra_message message = {"user", "Who is the king?"};
  ASSERT_EQ(ruvltra_stream_open_chat(own, &message, 1, &params, &stream), RUVLTRA_OK);
  ruvltra_stream_cancel(stream);
  ruvltra_generation* generation = nullptr;
  ASSERT_EQ(ruvltra_stream_wait(stream, &generation), RUVLTRA_OK);
  EXPECT_STREQ(ruvltra_generation_finish_reason(generation), "cancelled");
  EXPECT_LE(ruvltra_generation_n_tokens(generation), 2u);
  ruvltra_generation_free(generation);
  ruvltra_stream_free(stream);
  ruvltra_model_free(own);
}

TEST_F(CApi, TokensAndEmbeddings) {
  size_t n = 0;
  EXPECT_EQ(ruvltra_tokenize(model, "the king", 0, nullptr, 0, &n), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "c.capacity");
  ASSERT_GT(n, 0u);
  std::vector<int32_t> tokens(n);
  EXPECT_EQ(ruvltra_tokenize(model, "the king", 0, tokens.data(), n, &n), RUVLTRA_OK);
  std::vector<float> values(ruvltra_embedding_size(model));
  EXPECT_EQ(values.size(), 256u);
  EXPECT_EQ(ruvltra_embed(model, "the king", 1, values.data()), RUVLTRA_OK);
  EXPECT_NE(values[0], 0.0f);
  EXPECT_EQ(ruvltra_embed(model, "the king", 9, values.data()), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "request.layer");
}

TEST_F(CApi, ErrorsAreCodesWithReasons) {
  ruvltra_model* other = nullptr;
  EXPECT_EQ(ruvltra_model_load("/no/such/file.gguf", nullptr, &other), RUVLTRA_ERROR_IO);
  EXPECT_STRNE(ruvltra_last_error(), "");
  EXPECT_EQ(ruvltra_model_load(nullptr, nullptr, &other), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "c.null");
  options.kv_type = "f64";
  EXPECT_EQ(ruvltra_model_load(kModel.c_str(), &options, &other), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "config.kv_type");
  options.struct_bytes = 0;
  EXPECT_EQ(ruvltra_model_load(kModel.c_str(), &options, &other), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "c.struct_bytes");
  EXPECT_EQ(other, nullptr);

  ruvltra_generation* generation = nullptr;
  params.temperature = -1;
  EXPECT_EQ(ruvltra_generate(model, "king", &params, &generation), RUVLTRA_ERROR_USAGE);
  EXPECT_STREQ(ruvltra_last_error_id(), "config.temperature");
  EXPECT_EQ(ruvltra_chat(model, nullptr, 0, nullptr, &generation), RUVLTRA_ERROR_USAGE);
  EXPECT_EQ(ruvltra_generate(model, "\xff", nullptr, &generation), RUVLTRA_ERROR_INPUT);
  EXPECT_EQ(generation, nullptr);
}

// A program made when the structure was shorter: what it does not know keeps its default.
TEST_F(CApi, ShorterStructuresAreComplete) {
  ruvltra_generate_params old = params;
  old.struct_bytes = offsetof(ruvltra_generate_params, stop);
  old.stop = reinterpret_cast<const char* const*>(16);
  old.n_stop = 1000;
  ruvltra_generation* generation = nullptr;
  ASSERT_EQ(ruvltra_generate(model, "Who is the king?", &old, &generation), RUVLTRA_OK)
      << ruvltra_last_error();
  EXPECT_EQ(ruvltra_generation_n_tokens(generation), 12u);
  ruvltra_generation_free(generation);
}

TEST(CApiVersion, IsThatOfTheProject) { EXPECT_STREQ(ruvltra_version(), "0.1.0"); }

}  // namespace
