// Files that are right as containers and changed in what they say: the input is a list of edits to a tiny
// model, the writer repairs lengths and offsets, and the result is loaded and run for two steps if it loads.
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "../tests/tiny_model.h"
#include "base/bytes.h"
#include "kernels/dispatch.h"
#include "model/qwen2.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace {

using namespace ruvltra;
using testing::TinyModel;
using testing::TinyTensor;

constexpr std::array<TensorType, 6> kBaseTypes = {TensorType::kF32,  TensorType::kF16,  TensorType::kQ8_0,
                                                  TensorType::kQ4_0, TensorType::kQ4_K, TensorType::kQ6_K};
constexpr std::array<const char*, 8> kOptionalKeys = {
    "qwen2.attention.key_length", "qwen2.attention.value_length", "qwen2.rope.dimension_count",
    "qwen2.rope.scaling.type",    "qwen2.rope.scaling.factor",    "qwen2.attention.sliding_window",
    "qwen2.vocab_size",           "tokenizer.ggml.bos_token_id"};
constexpr size_t kMaxTensorBytes = size_t{1} << 20;

// Takes edits off the input until it is used up; a missing byte reads as zero.
class Edits {
 public:
  explicit Edits(std::span<const uint8_t> input) : input_(input) {}
  bool done() const { return input_.remaining() == 0; }

  template <class T>
  T take() {
    return input_.read<T>().value_or(T());
  }
  size_t below(size_t n) { return n == 0 ? 0 : take<uint16_t>() % n; }
  std::string text() {
    const auto piece = input_.take_text(std::min<uint64_t>(take<uint8_t>() % 24, input_.remaining()));
    return std::string(piece.value_or(""));
  }

  MetaValue value() {
    switch (take<uint8_t>() % 10) {
      case 0:
        return take<uint8_t>();
      case 1:
        return take<int8_t>();
      case 2:
        return take<uint16_t>();
      case 3:
        return take<uint32_t>();
      case 4:
        return take<int32_t>();
      case 5:
        return take<float>();
      case 6:
        return take<uint64_t>();
      case 7:
        return take<double>();
      case 8:
        return text();
      default:
        return std::vector<std::string>{text(), text()};
    }
  }

  void apply_one(TinyModel& model) {
    switch (take<uint8_t>() % 11) {
      case 0:
        model.metadata.set(key_of(model), value());
        break;
      case 1:
        model.metadata.set(kOptionalKeys[below(kOptionalKeys.size())], value());
        break;
      case 2:
        model.metadata.erase(key_of(model));
        break;
      case 3:
        edit_list<std::string>(model, "tokenizer.ggml.tokens", text());
        break;
      case 4:
        edit_list<std::string>(model, "tokenizer.ggml.merges", text());
        break;
      case 5:
        edit_list<int32_t>(model, "tokenizer.ggml.token_type", take<uint8_t>() % 8);
        break;
      case 6:
        edit_dims(model);
        break;
      case 7:
        edit_type(model);
        break;
      case 8:
        edit_data(model);
        break;
      case 9:
        edit_name(model);
        break;
      default:
        edit_set(model);
        break;
    }
  }

 private:
  std::string key_of(const TinyModel& model) {
    if (model.metadata.size() == 0) return "key";
    return model.metadata.entries()[below(model.metadata.size())].first;
  }

  template <class T>
  void edit_list(TinyModel& model, const char* key, T element) {
    const auto* list = model.metadata.find(key);
    if (list == nullptr || !std::holds_alternative<std::vector<T>>(*list)) return;
    auto& elements = model.list<T>(key);
    const size_t index = below(elements.size() + 1);
    if (index < elements.size()) {
      elements[index] = std::move(element);
    } else {
      elements.push_back(std::move(element));
    }
  }

  TinyTensor* tensor_of(TinyModel& model) {
    return model.tensors.empty() ? nullptr : &model.tensors[below(model.tensors.size())];
  }

  // Data of the new size; what was there stays.
  static void resize(TinyTensor& tensor, TensorPlan plan) {
    uint64_t n_elements = 1;
    for (const uint64_t dim : plan.dims) n_elements *= std::min<uint64_t>(dim, kMaxTensorBytes);
    const Format& format = format_of(plan.type);
    if (n_elements == 0 || n_elements > kMaxTensorBytes / 4 || plan.dims[0] % format.block_elements != 0)
      return;
    tensor.plan = std::move(plan);
    tensor.data.resize(format.row_bytes(n_elements));
  }
  void edit_dims(TinyModel& model) {
    TinyTensor* tensor = tensor_of(model);
    if (tensor == nullptr) return;
    TensorPlan plan = tensor->plan;
    const size_t index = below(4);
    if (index >= plan.dims.size()) plan.dims.resize(index + 1, 1);
    plan.dims[index] = take<uint16_t>() % 1024;
    resize(*tensor, std::move(plan));
  }
  void edit_type(TinyModel& model) {
    TinyTensor* tensor = tensor_of(model);
    if (tensor == nullptr) return;
    TensorPlan plan = tensor->plan;
    plan.type = all_formats()[below(all_formats().size())].type;
    resize(*tensor, std::move(plan));
  }
  void edit_data(TinyModel& model) {
    TinyTensor* tensor = tensor_of(model);
    if (tensor == nullptr) return;
    const size_t begin = take<uint32_t>() % tensor->data.size();
    const std::string bytes = text();
    for (size_t i = 0; i < bytes.size() && begin + i < tensor->data.size(); ++i) {
      tensor->data[begin + i] = static_cast<uint8_t>(bytes[i]);
    }
  }
  void edit_name(TinyModel& model) {
    if (TinyTensor* tensor = tensor_of(model)) tensor->plan.name = text();
  }
  void edit_set(TinyModel& model) {
    if (TinyTensor* tensor = tensor_of(model)) {
      if (take<uint8_t>() % 2 == 0) {
        model.erase(std::string(tensor->plan.name));
      } else {
        TinyTensor twin = *tensor;
        twin.plan.name = text();
        model.tensors.push_back(std::move(twin));
      }
    }
  }

  ByteView input_;
};

const TinyModel& base_model(size_t type_index, bool tied) {
  static std::array<std::optional<TinyModel>, 2 * kBaseTypes.size()> models;
  auto& model = models[2 * type_index + (tied ? 1 : 0)];
  const TensorType type = kBaseTypes[type_index];
  if (!model) model = testing::tiny_model(testing::tiny_shape(type, tied, 1, 32), type);
  return *model;
}

// In memory where the system has a folder for that: a file is written for every input.
const std::filesystem::path& model_path() {
  static const std::filesystem::path path = [] {
    std::error_code ignored;
    const std::filesystem::path shared = "/dev/shm";
    const bool usable = std::filesystem::is_directory(shared, ignored) && ::access(shared.c_str(), W_OK) == 0;
    const auto folder = usable ? shared : std::filesystem::temp_directory_path();
    return folder / ("ruvltra_fuzz_" + std::to_string(getpid()) + ".gguf");
  }();
  return path;
}

Result<void> run_two_steps(const Ctx& ctx, const Weights& weights) {
  Workspace::Options options;
  options.max_tokens = 2;
  options.max_positions = 64;
  auto workspace = Workspace::make(weights.shape, options, ctx.pool->n_threads());
  auto kv = KvPool::make(weights.shape, KvType::kF16, 1);
  if (!workspace || !kv) return fail("fuzz.memory", "no memory for a step");
  SingleSequence sequence(0, 1);
  std::vector<float> logits(weights.shape.n_vocab);
  const TokenId tokens[] = {0, static_cast<TokenId>(weights.shape.n_vocab - 1)};
  StepOutput out;
  out.logits = logits;
  forward(ctx, weights, *kv, *workspace, sequence.append(tokens, SingleSequence::Rows::kLast), out);
  forward(ctx, weights, *kv, *workspace, sequence.append(std::span(tokens, 1), SingleSequence::Rows::kLast),
          out);
  return {};
}

Result<void> load_and_run() {
  static ThreadPool pool(1);
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table());
  const Ctx ctx{&pool, kernels};
  ASSIGN_OR_RETURN(const auto file, GgufFile::open(model_path()));
  if (const auto tokenizer = Tokenizer::load(file.metadata())) {
    const auto ids = tokenizer->encode("hello, hell<|im_end|>", Recognise::kAll);
    if (ids) (void)tokenizer->decode(*ids, true);
  }
  if (const auto text = file.metadata().get_string("tokenizer.chat_template"))
    (void)ChatTemplate::parse(*text);
  ASSIGN_OR_RETURN(const auto weights, Weights::load(ctx, file));
  return run_two_steps(ctx, weights);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Edits edits({data, size});
  const uint8_t base = edits.take<uint8_t>();
  TinyModel model = base_model(base / 2 % kBaseTypes.size(), base % 2 == 0);
  for (int n = 0; n < 16 && !edits.done(); ++n) edits.apply_one(model);
  if (model.write(model_path())) {
    const auto result = load_and_run();
    CHECK(result || !result.error().id.empty());
  }
  std::filesystem::remove(model_path());
  return 0;
}
