#include "sona/kept_tasks.h"

#include <algorithm>

#include "base/check.h"

namespace ruvltra {
namespace {

std::vector<Example> examples_of(uint32_t begin, uint32_t end) {
  std::vector<Example> examples;
  for (uint32_t i = begin; i < end; ++i) examples.push_back({i, 1});
  return examples;
}

}  // namespace

// Copies what stays into memory of its own, of exactly the size it needs: what goes is gone from memory, too.
void KeptTasks::take(std::span<const Source> sources) {
  TokenRecords::Options options = options_;
  options.capacity = options.max_ids = 0;
  for (const Source& source : sources) {
    options.capacity += source.end - source.begin;
    for (uint32_t i = source.begin; i < source.end; ++i) options.max_ids += (*source.records)[i].ids.size();
  }
  std::unique_ptr<TokenRecords> records;
  std::vector<KeptText> texts;
  if (options.capacity > 0) records = std::make_unique<TokenRecords>(options);
  for (const Source& source : sources) {
    for (uint32_t i = source.begin; i < source.end; ++i) CHECK(records->copy(*source.records, i));
    texts.push_back(source.text);
    texts.back().end = static_cast<uint32_t>(records->size());
  }
  records_ = std::move(records);
  texts_ = std::move(texts);
}

void KeptTasks::add(const std::string& task, const TokenRecords& records, std::span<const uint32_t> begins,
                    std::span<const uint64_t> owners, const Nll& nll) {
  CHECK(begins.size() == owners.size() + 1);
  if (owners.empty()) return;
  const bool full = names_.size() == kMaxKeptTasks;
  std::vector<Source> sources;
  for (size_t i = 0; i < texts_.size(); ++i) {
    KeptText text = texts_[i];
    if (full && text.task-- == 0) continue;
    sources.push_back({records_.get(), i == 0 ? 0 : texts_[i - 1].end, texts_[i].end, text});
  }
  if (full) names_.erase(names_.begin());
  names_.push_back(task);
  const uint32_t last = begins.back();
  const uint32_t first = last - std::min(last - begins.front(), static_cast<uint32_t>(kMaxKeptTokens));
  for (size_t i = 0; i < owners.size(); ++i) {
    const uint32_t begin = std::max(begins[i], first), end = begins[i + 1];
    if (begin >= end) continue;
    const auto examples = examples_of(begin, end);
    const KeptText text{.task = static_cast<uint32_t>(names_.size() - 1),
                        .end = 0,
                        .owner = owners[i],
                        .nll = nll({&records, examples})};
    sources.push_back({&records, begin, end, text});
  }
  take(sources);
}

size_t KeptTasks::forget(uint64_t owner) {
  std::vector<Source> sources;
  for (size_t i = 0; i < texts_.size(); ++i) {
    if (texts_[i].owner != owner)
      sources.push_back({records_.get(), i == 0 ? 0 : texts_[i - 1].end, texts_[i].end, texts_[i]});
  }
  const size_t n_gone = texts_.size() - sources.size();
  if (n_gone > 0) take(sources);
  return n_gone;
}

std::vector<TaskForgetting> KeptTasks::forgotten(const Nll& nll) const {
  std::vector<TaskForgetting> found;
  for (size_t task = 0; task < names_.size(); ++task) {
    uint32_t begin = 0, at = 0, end = 0;
    double before = 0;
    for (const KeptText& text : texts_) {
      if (text.task == task) {
        if (end == 0) begin = at;
        end = text.end;
        before += text.nll * (text.end - at);
      }
      at = text.end;
    }
    if (begin >= end) continue;
    const size_t n = end - begin;
    const auto examples = examples_of(begin, end);
    found.push_back({names_[task], nll({records_.get(), examples}) - before / static_cast<double>(n), n});
  }
  return found;
}

bool KeptTasks::restore(std::vector<std::string> names, std::vector<KeptText> texts,
                        std::unique_ptr<TokenRecords> records) {
  if (names.size() > kMaxKeptTasks) return false;
  uint32_t end = 0, task = 0;
  for (const KeptText& text : texts) {
    if (text.end <= end || text.task < task || text.task >= names.size()) return false;
    end = text.end;
    task = text.task;
  }
  if (end != (records ? records->size() : 0)) return false;
  names_ = std::move(names);
  texts_ = std::move(texts);
  records_ = std::move(records);
  return true;
}

}  // namespace ruvltra
