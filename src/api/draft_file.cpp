#include "api/draft_file.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"
#include "engine/draft_model.h"

namespace ruvltra {

Result<DraftFile> DraftFile::open(const std::filesystem::path& path, const Tokenizer& target, KvType kv_type,
                                  const LoadOptions& options) {
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::open(path, {.map = options.map_file}));
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  RETURN_IF_ERROR(KvPool::check_type(shape, kv_type));
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  RETURN_IF_ERROR(check_draft(target, tokenizer, path.string()));
  return DraftFile(std::move(file), shape);
}

MemoryNeed DraftFile::need(const EngineLoop::Options& loop) const {
  const DraftModel::Options draft = EngineLoop::draft_options(loop, shape_);
  MemoryNeed need =
      memory_need(shape_, file_.tensors(), draft.kv_type, draft.max_positions, DraftModel::kMaxRows);
  need.kv_bytes = draft.n_pages * uint64_t{KvPool::page_bytes(shape_, draft.kv_type)};
  need.scratch_bytes += draft.max_sequences * shape_.n_logits() * sizeof(float);
  return need;
}

Result<Weights> DraftFile::load(const Ctx& ctx, const LoadOptions& options) const {
  ASSIGN_OR_RETURN(Weights weights, Weights::load(ctx, file_, options.on_progress, ModelRole::kDraft));
  if (options.tune) RETURN_IF_ERROR(weights.tune(ctx));
  return weights;
}

}  // namespace ruvltra
