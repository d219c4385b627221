#include "engine/draft_model.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "engine/lookahead.h"
#include "engine/sampler_math.h"

namespace ruvltra {
namespace {

constexpr size_t kLanes = 16;
constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr double kNegligible = -20;  // log of a share that no confidence feels

// In lanes that compilers vectorise.
float highest_of(std::span<const float> row, std::span<const float> mask) {
  float highest[kLanes];
  std::fill(highest, highest + kLanes, kForbidden);
  const size_t n_whole = row.size() / kLanes * kLanes;
  for (size_t begin = 0; begin < n_whole; begin += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float z = row[begin + lane] + mask[begin + lane];
      highest[lane] = z > highest[lane] ? z : highest[lane];
    }
  }
  for (size_t i = n_whole; i < row.size(); ++i) highest[0] = std::max(highest[0], row[i] + mask[i]);
  return *std::max_element(highest, highest + kLanes);
}

}  // namespace

DraftModel::DraftModel(Runner runner, const Options& options, std::vector<TokenId> ids,
                       std::vector<float> mask)
    : options_(options),
      runner_(std::move(runner)),
      pages_(options.n_pages),
      ids_(std::move(ids)),
      mask_(std::move(mask)) {
  work_.reserve(kMaxRows / kPageTokens + 3 * options.max_sequences);
  read_.reserve(runner_.options().max_rows);
  parts_.reserve(options.max_sequences);
  n_new_.reserve(options.max_sequences);
}

Result<DraftModel> DraftModel::make(const Ctx& ctx, const Weights& weights, std::span<const TokenId> unused,
                                    const Options& options) {
  CHECK(options.max_positions >= kLeastPositions);
  Runner::Options steps;
  steps.max_rows = kMaxRows + options.max_sequences;
  steps.max_parts = options.max_sequences;
  steps.max_wanted = options.max_sequences;
  steps.max_positions = options.max_positions;
  steps.n_pages = options.n_pages;
  steps.kv_type = options.kv_type;
  ASSIGN_OR_RETURN(Runner runner, Runner::make(ctx, weights, steps));
  std::vector<TokenId> ids = weights.head_ids;
  if (ids.empty()) {
    ids.resize(weights.shape.n_vocab);
    std::iota(ids.begin(), ids.end(), 0);
  }
  std::vector<float> mask(ids.size(), 0.0f);
  for (size_t row = 0; row < ids.size(); ++row) {
    const bool proposable = static_cast<size_t>(ids[row]) < options.n_target_vocab &&
                            !std::binary_search(unused.begin(), unused.end(), ids[row]);
    if (!proposable) mask[row] = kForbidden;
  }
  return DraftModel(std::move(runner), options, std::move(ids), std::move(mask));
}

DraftModel::Context DraftModel::open(TenantId tenant) const {
  Context context;
  context.table.tenant = tenant;
  context.table.pages.reserve(pages_for(options_.max_positions));
  context.beyond.reserve(kMaxDraft);
  return context;
}

void DraftModel::catch_up(Context& context, std::span<const TokenId> text, size_t window) {
  PageTable& table = context.table;
  size_t n_true = 0;  // of its own proposals, those the text confirmed
  while (n_true < context.beyond.size() && context.n_text + n_true < text.size() &&
         context.beyond[n_true] == text[context.n_text + n_true])
    ++n_true;
  const size_t n_agreed = std::min(context.n_text + n_true, text.size() - 1);
  if (context.first + table.n_tokens > n_agreed) pages_.truncate(table, n_agreed - context.first);
  context.n_text = text.size();
  context.beyond.clear();

  const bool outgrown = text.size() - context.first + kMaxDraft > options_.max_positions;
  if (outgrown || n_unread(context, text.size()) > window) {
    pages_.release(table);
    const size_t n_kept = std::min({window, outgrown ? options_.max_positions / 2 : window, text.size()});
    context.first = text.size() - n_kept;
  }
}

void DraftModel::begin() {
  runner_.begin();
  parts_.clear();
  n_new_.clear();
}

bool DraftModel::add(Context& context, std::span<const TokenId> tokens, bool wants_proposal) {
  CHECK(!tokens.empty());
  work_.clear();
  if (tokens.size() > rows_left() || parts_.size() == options_.max_sequences) return false;
  if (!pages_.reserve(context.table, tokens.size(), work_)) return false;
  for (const PageWork& work : work_) {
    CHECK(work.from == kNoPage);  // its pages are never shared
    runner_.kv().clear_page(work.to);
  }
  // A token that only the other model knows is read as some other one: a worse guess, no more.
  read_.assign(tokens.begin(), tokens.end());
  for (TokenId& token : read_) {
    if (static_cast<size_t>(token) >= runner_.weights().shape.n_vocab) token = 0;
  }
  runner_.add({.tokens = read_,
               .first_position = context.table.n_tokens,
               .pages = context.table.pages,
               .n_wanted = wants_proposal ? 1u : 0u});
  parts_.push_back(&context);
  n_new_.push_back(tokens.size());
  return true;
}

void DraftModel::run() {
  runner_.run(RowOutput::kLogits, {});
  for (size_t i = 0; i < parts_.size(); ++i) pages_.commit(parts_[i]->table, n_new_[i]);
}

DraftModel::Proposal DraftModel::proposal(size_t i, double u) const {
  const std::span<const float> row = runner_.logits(i);
  const float highest = highest_of(row, mask_);
  if (!(highest > kForbidden) || !(highest < std::numeric_limits<float>::infinity())) return {};
  const auto below = [&](size_t r) {
    return static_cast<double>(row[r] + mask_[r]) - static_cast<double>(highest);
  };
  double total = 0;  // of the exponentials at temperature 1
  size_t best = row.size();
  for (size_t r = 0; r < row.size(); ++r) {
    const double z = below(r);
    if (z == 0 && best == row.size()) best = r;
    if (z > kNegligible) total += exp_nonpositive(z);
  }
  if (best == row.size()) return {};
  if (options_.temperature == 0) return {ids_[best], 1 / total};

  const double scale = 1.0 / static_cast<double>(options_.temperature);
  double mass = 0, sum = 0;
  for (size_t r = 0; r < row.size(); ++r) {
    if (below(r) * scale > kNegligible) mass += exp_nonpositive(below(r) * scale);
  }
  for (size_t r = 0; r < row.size(); ++r) {
    if (!(below(r) * scale > kNegligible)) continue;
    sum += exp_nonpositive(below(r) * scale);
    if (sum > u * mass) return {ids_[r], exp_nonpositive(below(r)) / total};
  }
  return {ids_[best], 1 / total};
}

Result<void> check_draft(const Tokenizer& target, const Tokenizer& draft, std::string_view draft_name) {
  const auto is_unused = [](const Tokenizer& tokenizer, TokenId id) {
    return static_cast<size_t>(id) >= tokenizer.n_vocab() || tokenizer.kind(id) == TokenKind::kUnused;
  };
  for (size_t i = 0; i < std::max(target.n_vocab(), draft.n_vocab()); ++i) {
    const auto id = static_cast<TokenId>(i);
    const bool one = is_unused(target, id), other = is_unused(draft, id);
    if (one && other) continue;
    if (one == other && target.kind(id) == draft.kind(id) && target.bytes(id) == draft.bytes(id)) continue;
    const auto text = [&](const Tokenizer& tokenizer, bool unused) {
      return unused ? std::string("no token") : ruvltra::quoted(tokenizer.bytes(id), 32);
    };
    return fail(ErrorKind::kUsage, "draft.vocabulary",
                "{}: expected the vocabulary of the model it drafts for; token {}: expected {}, found {}",
                draft_name, id, text(target, one), text(draft, other));
  }
  return {};
}

}  // namespace ruvltra
