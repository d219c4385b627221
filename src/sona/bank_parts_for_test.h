// What bank tests stand on: a store in memory whose writes can be made to fail, and an embedder with planted
// similarities. Tests only.
#pragma once

#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "base/num.h"
#include "sona/text_embedder.h"
#include "store/store.h"

namespace ruvltra {

// "topic" is a unit vector of its own; "topic|0.8|anything" has the cosine 0.8 with it and nearly none with
// other topics. In space s all vectors are others.
class PlantedEmbedder final : public TextEmbedder {
 public:
  uint64_t space() const override { return space_; }
  void set_space(uint64_t space) { space_ = space; }
  int n_calls() const { return n_calls_; }

  Result<Embedding> embed(std::string_view text, std::string_view) override {
    ++n_calls_;
    if (text.empty()) return fail(ErrorKind::kUsage, "learning.empty_text", "text: expected some");
    const std::string whole(text), topic = whole.substr(0, whole.find('|'));
    std::vector<float> v = direction(topic);
    if (topic.size() < whole.size()) {
      const double c = std::stod(whole.substr(topic.size() + 1));
      std::vector<float> u = direction(whole);
      double along = 0, norm = 0;
      for (size_t i = 0; i < v.size(); ++i) along += static_cast<double>(u[i]) * v[i];
      for (size_t i = 0; i < v.size(); ++i) u[i] -= static_cast<float>(along * v[i]);
      for (const float x : u) norm += static_cast<double>(x) * x;
      const double s = std::sqrt((1 - c * c) / norm);
      for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(c * v[i] + s * u[i]);
    }
    return Embedding{space_, std::move(v)};
  }
  bool cached(std::string_view, std::string_view, Embedding*) const override { return false; }

 private:
  std::vector<float> direction(const std::string& name) const {
    std::seed_seq seed(name.begin(), name.end());
    std::mt19937_64 random(seed);
    random.discard(space_ * 1000);
    std::normal_distribution<float> normal;
    std::vector<float> v(kEmbeddingDim);
    double norm = 0;
    for (float& x : v) {
      x = normal(random);
      norm += static_cast<double>(x) * x;
    }
    for (float& x : v) x /= static_cast<float>(std::sqrt(norm));
    return v;
  }
  std::atomic<uint64_t> space_ = 1;
  std::atomic<int> n_calls_ = 0;
};

// The patterns' part of the contract of store.h, in a map. What the bank has no use for is an error.
class MemoryStore final : public Store {
 public:
  explicit MemoryStore(size_t pattern_capacity) : capacity_(pattern_capacity) {}

  void fail_writes(bool on) { fail_ = on; }
  void before_change(std::function<void()> call) { before_change_ = std::move(call); }
  size_t most_rows() const { return most_rows_; }
  size_t n_reads() const { return n_reads_; }
  std::map<PatternId, PatternRecord> rows() {
    const std::lock_guard lock(mutex_);
    return rows_;
  }

  Result<void> put_patterns(std::span<const PatternRecord> records) override {
    return change_patterns({}, records);
  }
  Result<PatternRecord> pattern(const PatternId& id) override {
    const std::lock_guard lock(mutex_);
    ++n_reads_;
    const auto at = rows_.find(id);
    if (at == rows_.end()) return fail("store.not_found", "no such pattern");
    return at->second;
  }
  Result<void> each_pattern(const std::function<bool(const PatternRecord&)>& visit) override {
    for (const auto& [id, record] : rows()) {
      if (!visit(record)) break;
    }
    return {};
  }
  Result<void> change_patterns(std::span<const PatternId> remove,
                               std::span<const PatternRecord> put) override {
    if (before_change_) before_change_();
    const std::lock_guard lock(mutex_);
    if (fail_) return fail(ErrorKind::kIo, "store.disk_full", "disk full");
    auto next = rows_;
    for (const PatternId& id : remove) {
      if (next.erase(id) == 0) return fail("store.not_found", "no such pattern");
    }
    for (PatternRecord record : put) {
      for (float& x : record.embedding) x = f16_to_f32(f32_to_f16(x));
      next[record.id] = std::move(record);
    }
    if (next.size() > capacity_) return fail("store.full", "full");
    rows_ = std::move(next);
    most_rows_ = std::max(most_rows_, rows_.size());
    ++sequence_;
    return {};
  }
  Result<void> replace_clusters(std::span<const ClusterRecord> clusters,
                                std::span<const std::pair<PatternId, int32_t>> members) override {
    const std::lock_guard lock(mutex_);
    if (fail_) return fail(ErrorKind::kIo, "store.disk_full", "disk full");
    clusters_.assign(clusters.begin(), clusters.end());
    for (auto& [id, record] : rows_) record.cluster = -1;
    for (const auto& [id, cluster] : members) rows_.at(id).cluster = cluster;
    return {};
  }
  Result<std::vector<ClusterRecord>> clusters() override {
    const std::lock_guard lock(mutex_);
    return clusters_;
  }
  Result<DeleteReport> delete_data(std::string_view tenant, std::optional<std::string>) override {
    const std::lock_guard lock(mutex_);
    DeleteReport report;
    report.n_patterns = std::erase_if(rows_, [&](const auto& row) { return row.second.tenant == tenant; });
    ++sequence_;
    return report;
  }
  StoreStats stats() const override {
    const std::lock_guard lock(mutex_);
    StoreStats stats;
    stats.n_patterns = rows_.size();
    stats.sequence = sequence_;
    return stats;
  }

  Result<void> put_trajectory(const TrajectoryRecord&) override { return no(); }
  Result<void> put_trajectory_async(TrajectoryRecord, std::function<void(Result<void>)>) override {
    return no();
  }
  Result<TrajectoryRecord> trajectory(std::string_view, const TrajectoryId&) override { return no(); }
  Result<void> each_trajectory(std::string_view,
                               const std::function<bool(const TrajectoryRecord&)>&) override {
    return no();
  }
  Result<bool> put_feedback(const FeedbackRecord&) override { return no(); }
  Result<void> each_feedback(std::string_view, const std::function<bool(const FeedbackRecord&)>&) override {
    return no();
  }
  Result<void> put_decision(const DecisionRecord&) override { return no(); }
  Result<void> put_decision_async(DecisionRecord, std::function<void(Result<void>)>) override { return no(); }
  Result<DecisionRecord> decision(std::string_view, const DecisionId&) override { return no(); }
  Result<bool> put_outcome(const DecisionRecord&, const FeedbackRecord&) override { return no(); }
  Result<void> each_decision(std::string_view, const std::function<bool(const DecisionRecord&)>&) override {
    return no();
  }
  Result<size_t> expire_decisions(int64_t) override { return no(); }
  Result<size_t> expire_trajectories(int64_t) override { return no(); }
  Result<GenerationRecord> publish(const GenerationRecord&, uint64_t) override { return no(); }
  Result<std::optional<GenerationRecord>> live(std::string_view, std::string_view) override { return no(); }
  Result<std::vector<GenerationRecord>> history(std::string_view, std::string_view, size_t) override {
    return no();
  }
  Result<std::vector<std::pair<std::string, std::string>>> scopes() override { return no(); }
  Result<void> put_value(std::string_view, std::span<const uint8_t>) override { return no(); }
  Result<std::optional<std::vector<uint8_t>>> value(std::string_view) override { return no(); }
  Result<std::vector<DamagedRow>> verify() override { return no(); }
  std::vector<DamagedRow> damaged() const override { return {}; }
  Result<void> checkpoint() override { return no(); }
  Result<void> backup(const std::filesystem::path&) override { return no(); }
  Result<std::filesystem::path> backup_now() override { return no(); }
  Result<size_t> export_jsonl(std::string_view,
                              const std::function<Result<void>(std::string_view)>&) override {
    return no();
  }
  Result<size_t> import_jsonl(std::string_view, std::string_view) override { return no(); }

 private:
  static tl::unexpected<Error> no() { return fail("test.store", "not in this store"); }
  const size_t capacity_;
  std::atomic<bool> fail_ = false;
  std::function<void()> before_change_;
  mutable std::mutex mutex_;
  std::map<PatternId, PatternRecord> rows_;
  std::vector<ClusterRecord> clusters_;
  uint64_t sequence_ = 0;
  size_t most_rows_ = 0, n_reads_ = 0;
};

}  // namespace ruvltra
