// The file of a draft model: looked at before memory is taken, loaded after the model it drafts for.
#pragma once

#include <filesystem>

#include "engine/engine_loop.h"
#include "gguf/reader.h"
#include "model/memory.h"
#include "model/weights.h"
#include "ruvltra/model.h"
#include "text/tokenizer.h"

namespace ruvltra {

class DraftFile {
 public:
  // Errors: gguf.*, model.*, tokenizer.*, draft.vocabulary, kv.head_size.
  static Result<DraftFile> open(const std::filesystem::path& path, const Tokenizer& target, KvType kv_type,
                                const LoadOptions& options);

  // What it takes beside a model whose loop has these options.
  MemoryNeed need(const EngineLoop::Options& loop) const;
  // Errors: weights.*, model.cancelled.
  Result<Weights> load(const Ctx& ctx, const LoadOptions& options) const;

 private:
  DraftFile(GgufFile file, const ModelShape& shape) : file_(std::move(file)), shape_(shape) {}

  GgufFile file_;
  ModelShape shape_;
};

}  // namespace ruvltra
