#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <system_error>

#include "base/check.h"
#include "base/fail.h"
#include "ops/autotune.h"

namespace ruvltra {
namespace {

// Counts bytes read by any thread and passes them on from one at a time.
class LoadProgress {
 public:
  LoadProgress(const Progress& progress, uint64_t total) : progress_(progress), total_(total) {}

  Result<void> add(uint64_t n_bytes) {
    const uint64_t done = done_.fetch_add(n_bytes) + n_bytes;
    if (progress_ && mutex_.try_lock()) {
      const std::lock_guard lock(mutex_, std::adopt_lock);
      if (!progress_(done, total_)) cancelled_ = true;
    }
    if (cancelled_) return fail(ErrorKind::kCancelled, "model.cancelled", "loading: stopped on request");
    return {};
  }

 private:
  const Progress& progress_;
  const uint64_t total_;
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
};

class Loader {
 public:
  Loader(const Ctx& ctx, const GgufFile& file, const Progress& progress)
      : ctx_(ctx), file_(file), progress_(progress, tensor_bytes(file)) {}

  Result<void> load(std::string_view name, PackedMatrix& matrix) {
    const TensorInfo& tensor = find(name);
    const uint64_t row_bytes = format_of(tensor.type).row_bytes(tensor.row_elements());
    const auto read = [&](size_t row_begin, size_t, std::span<uint8_t> out) -> Result<void> {
      RETURN_IF_ERROR(file_.read(tensor, row_begin * row_bytes, out));
      return progress_.add(out.size());
    };
    auto packed = PackedMatrix::pack(ctx_, name, tensor.type, tensor.n_rows(), tensor.row_elements(), read);
    if (!packed && packed.error().id == "weights.not_finite") {
      packed.error().message = fmt::format("{}: {}", file_.path().string(), packed.error().message);
    }
    ASSIGN_OR_RETURN(matrix, std::move(packed));
    file_.release(tensor);
    return {};
  }

  Result<void> load(std::string_view name, AlignedBuffer<float>& vector) {
    const TensorInfo& tensor = find(name);
    ASSIGN_OR_RETURN(vector, AlignedBuffer<float>::make(tensor.n_elements));
    const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(vector.data()), tensor.n_bytes);
    RETURN_IF_ERROR(file_.read(tensor, 0, bytes));
    if (!format_of(tensor.type).is_finite(bytes.data(), tensor.n_elements)) {
      return fail("weights.not_finite", "{}: tensor {}: expected finite values, found NaN or infinity",
                  file_.path().string(), name);
    }
    file_.release(tensor);
    return progress_.add(bytes.size());
  }

  Result<void> load_layer(size_t index, LayerWeights& layer) {
    const auto load_part = [&](std::string_view part, auto& target) {
      return load(fmt::format("blk.{}.{}", index, part), target);
    };
    RETURN_IF_ERROR(load_part("attn_norm.weight", layer.attn_norm));
    RETURN_IF_ERROR(load_part("attn_q.weight", layer.attn_q));
    RETURN_IF_ERROR(load_part("attn_q.bias", layer.q_bias));
    RETURN_IF_ERROR(load_part("attn_k.weight", layer.attn_k));
    RETURN_IF_ERROR(load_part("attn_k.bias", layer.k_bias));
    RETURN_IF_ERROR(load_part("attn_v.weight", layer.attn_v));
    RETURN_IF_ERROR(load_part("attn_v.bias", layer.v_bias));
    RETURN_IF_ERROR(load_part("attn_output.weight", layer.attn_output));
    RETURN_IF_ERROR(load_part("ffn_norm.weight", layer.ffn_norm));
    RETURN_IF_ERROR(load_part("ffn_gate.weight", layer.ffn_gate));
    RETURN_IF_ERROR(load_part("ffn_up.weight", layer.ffn_up));
    return load_part("ffn_down.weight", layer.ffn_down);
  }

 private:
  static uint64_t tensor_bytes(const GgufFile& file) {
    uint64_t n_bytes = 0;
    for (const TensorInfo& tensor : file.tensors()) n_bytes += tensor.n_bytes;
    return n_bytes;
  }

  const TensorInfo& find(std::string_view name) const {
    const TensorInfo* tensor = file_.find(name);
    CHECK(tensor != nullptr);  // check_tensors() found it
    return *tensor;
  }

  const Ctx& ctx_;
  const GgufFile& file_;
  LoadProgress progress_;
};

// The digest of a file, computed by a thread of its own; where the system grants none, by the one who asks.
class BackgroundDigest {
 public:
  explicit BackgroundDigest(const GgufFile& file) : file_(file) {
    try {
      digest_ = std::async(std::launch::async, [this] { return compute(); });
    } catch (const std::system_error&) {
      digest_ = std::async(std::launch::deferred, [this] { return compute(); });
    }
  }
  ~BackgroundDigest() {
    stop_ = true;
    if (digest_.valid()) digest_.wait();
  }
  BackgroundDigest(const BackgroundDigest&) = delete;
  BackgroundDigest& operator=(const BackgroundDigest&) = delete;

  Result<Sha256Digest> get() { return digest_.get(); }

 private:
  Result<Sha256Digest> compute() const {
    return file_sha256(file_, [this](uint64_t, uint64_t) { return !stop_; });
  }

  const GgufFile& file_;
  std::atomic<bool> stop_{false};
  std::future<Result<Sha256Digest>> digest_;
};

}  // namespace

Result<Weights> Weights::load(const Ctx& ctx, const GgufFile& file, const Progress& progress,
                              ModelRole role) {
  Weights weights;
  ASSIGN_OR_RETURN(weights.shape, ModelShape::from_file(file));
  if (weights.shape.is_trimmed() && role != ModelRole::kDraft) {
    return fail("model.trimmed_draft",
                "{}: expected a whole model, found a draft trimmed to {} of {} tokens; use it with --draft",
                file.path().string(), weights.shape.n_logits(), weights.shape.n_vocab);
  }
  ASSIGN_OR_RETURN(weights.head_ids, read_draft_vocabulary(file.metadata(), weights.shape.n_vocab));
  RETURN_IF_ERROR(check_tensors(weights.shape, file.path().string(), file.tensors()));
  BackgroundDigest digest(file);
  Loader loader(ctx, file, progress);
  RETURN_IF_ERROR(loader.load("token_embd.weight", weights.token_embd));
  weights.layers.resize(weights.shape.n_layers);
  for (size_t layer = 0; layer < weights.shape.n_layers; ++layer) {
    RETURN_IF_ERROR(loader.load_layer(layer, weights.layers[layer]));
  }
  RETURN_IF_ERROR(loader.load("output_norm.weight", weights.output_norm));
  if (!weights.shape.tied) RETURN_IF_ERROR(loader.load("output.weight", weights.output));
  ASSIGN_OR_RETURN(weights.file_digest, digest.get());
  return weights;
}

Result<void> Weights::tune(const Ctx& ctx) {
  std::vector<PackedMatrix*> matrices;
  for (LayerWeights& layer : layers) {
    matrices.insert(matrices.end(), {&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.attn_output,
                                     &layer.ffn_gate, &layer.ffn_up, &layer.ffn_down});
  }
  matrices.push_back(shape.tied ? &token_embd : &output);
  return autotune(ctx, matrices);
}

std::vector<std::span<const uint8_t>> Weights::read_per_token() const {
  std::vector<std::span<const uint8_t>> blocks;
  for (const LayerWeights& layer : layers) {
    for (const PackedMatrix* matrix : {&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.attn_output,
                                       &layer.ffn_gate, &layer.ffn_up, &layer.ffn_down}) {
      blocks.push_back(matrix->bytes());
    }
  }
  blocks.push_back(head().bytes());
  return blocks;
}

uint64_t Weights::bytes_per_token() const {
  uint64_t n_bytes = 0;
  for (const auto& block : read_per_token()) n_bytes += block.size();
  return n_bytes;
}

uint64_t Weights::n_bytes() const {
  uint64_t n_floats = output_norm.size();
  for (const LayerWeights& layer : layers) {
    for (const AlignedBuffer<float>* vector :
         {&layer.attn_norm, &layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.ffn_norm}) {
      n_floats += vector->size();
    }
  }
  return bytes_per_token() + n_floats * sizeof(float) + (shape.tied ? 0 : token_embd.n_bytes());
}

Result<Sha256Digest> file_sha256(const GgufFile& file, const Progress& progress) {
  constexpr uint64_t kPieceBytes = uint64_t{1} << 20;
  Sha256 hash;
  std::vector<uint8_t> piece;
  uint64_t done = 0;
  for (size_t part = 0; part < file.n_parts(); ++part) {
    const InputFile& input = file.part(part);
    for (uint64_t begin = 0; begin < input.size(); begin += piece.size()) {
      piece.resize(std::min(kPieceBytes, input.size() - begin));
      RETURN_IF_ERROR(input.read_at(begin, piece));
      hash.update(piece);
      done += piece.size();
      if (progress && !progress(done, file.file_bytes())) {
        return fail(ErrorKind::kCancelled, "model.cancelled", "hashing: stopped on request");
      }
    }
  }
  return hash.finish();
}

}  // namespace ruvltra
