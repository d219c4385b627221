// What the model tests share: a model with its threads and kernels, golden arrays, and measures of
// difference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/threads.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/kv_pool.h"
#include "model/qwen2.h"
#include "model/step.h"
#include "model/weights.h"

namespace ruvltra {

inline std::string source_path(const std::string& name) {
  return std::string(RUVLTRA_SOURCE_DIR) + "/" + name;
}

// A model that one sequence at a time runs through.
class LoadedTestModel {
 public:
  LoadedTestModel(const std::string& path, int n_threads, const std::string& isa = {},
                  ModelRole role = ModelRole::kMain)
      : pool_(n_threads) {
    auto table = kernel_table(isa);
    EXPECT_TRUE(table) << isa;
    ctx = {&pool_, *table};
    auto file = GgufFile::open(path);
    EXPECT_TRUE(file) << (file ? "" : file.error().message);
    auto loaded = Weights::load(ctx, *file, {}, role);
    EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().message);
    weights = std::move(*loaded);
  }

  struct Run {
    std::vector<float> logits;  // (n, n_logits)
    std::vector<float> layers;  // (n_layers, n, d_model), if asked for
  };
  // All logits of a fresh sequence fed in chunks of `chunk` tokens (0 = whole).
  Run run(const std::vector<TokenId>& tokens, size_t chunk, bool exact, bool with_layers = false) {
    const ModelShape& shape = weights.shape;
    const size_t n = tokens.size();
    if (chunk == 0) chunk = n;
    Workspace::Options options;
    options.max_tokens = chunk;
    options.max_positions = n;
    options.exact = exact;
    Workspace workspace = std::move(*Workspace::make(shape, options, pool_.n_threads()));
    KvPool kv = std::move(*KvPool::make(shape, exact ? KvType::kF32 : kv_type, KvPool::pages_for(n)));
    SingleSequence sequence(0, kv.n_pages());
    std::vector<int> taps;
    for (size_t layer = 0; with_layers && layer < shape.n_layers; ++layer)
      taps.push_back(static_cast<int>(layer));

    Run result;
    result.logits.resize(n * shape.n_logits());
    result.layers.resize(taps.size() * n * shape.d_model);
    std::vector<float> tapped(taps.size() * chunk * shape.d_model);
    for (size_t begin = 0; begin < n; begin += chunk) {
      const size_t count = std::min(chunk, n - begin);
      StepInput in = sequence.append(std::span(tokens).subspan(begin, count), SingleSequence::Rows::kAll);
      in.tap_layers = taps;
      StepOutput out;
      out.logits = std::span(result.logits).subspan(begin * shape.n_logits(), count * shape.n_logits());
      out.taps = std::span(tapped).first(taps.size() * count * shape.d_model);
      forward(ctx, weights, kv, workspace, in, out);
      for (size_t tap = 0; tap < taps.size(); ++tap) {
        std::copy_n(tapped.data() + tap * count * shape.d_model, count * shape.d_model,
                    result.layers.data() + (tap * n + begin) * shape.d_model);
      }
    }
    return result;
  }

  Ctx ctx;
  Weights weights;
  KvType kv_type = KvType::kF16;  // of runs that are not exact

 private:
  ThreadPool pool_;
};

// Comma or space separated ids.
inline std::vector<TokenId> read_ids(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<TokenId> ids;
  for (TokenId id; file >> id; file.ignore(1, ',')) ids.push_back(id);
  return ids;
}

// The values of a NumPy file of little-endian float32 in C order.
inline std::vector<float> read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  const std::string bytes = content.str();
  EXPECT_TRUE(bytes.starts_with("\x93NUMPY\x01") &&
              bytes.find("'<f4', 'fortran_order': False") != std::string::npos)
      << path;
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) + 256u * static_cast<uint8_t>(bytes[9]);
  std::vector<float> values((bytes.size() - header) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + header, values.size() * sizeof(float));
  return values;
}

// Sum (a - b)^2 / sum b^2.
inline double nmse(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return difference / norm;
}

// Mean over rows of KL(softmax(reference) || softmax(found)).
inline double mean_kl(std::span<const float> reference, std::span<const float> found, size_t n_vocab) {
  EXPECT_EQ(reference.size(), found.size());
  const auto log_norm = [&](const float* row) {
    double largest = -INFINITY;
    for (size_t i = 0; i < n_vocab; ++i) largest = std::max(largest, static_cast<double>(row[i]));
    double sum = 0;
    for (size_t i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(row[i]) - largest);
    return largest + std::log(sum);
  };
  double total = 0;
  for (size_t begin = 0; begin < reference.size(); begin += n_vocab) {
    const float* p = reference.data() + begin;
    const float* q = found.data() + begin;
    const double p_norm = log_norm(p);
    const double q_norm = log_norm(q);
    for (size_t i = 0; i < n_vocab; ++i) {
      const double log_p = static_cast<double>(p[i]) - p_norm;
      total += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_norm));
    }
  }
  return total / static_cast<double>(reference.size() / n_vocab);
}

}  // namespace ruvltra
