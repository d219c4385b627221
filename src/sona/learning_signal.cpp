#include "sona/learning_signal.h"

#include <cmath>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

// Lost signals of which the memory may wait for the learner; beyond it they are freed where they are lost.
constexpr size_t kMaxLost = 1024;

bool belongs(const Scope& scope, const std::string& tenant, const std::optional<std::string>& session) {
  return scope.tenant == tenant && (!session || scope.session == *session);
}

}  // namespace

Result<void> validate_signal(const LearningSignal& signal, const SignalLimits& limits) {
  const auto bad = [](std::string_view field, const auto& expected, const auto& found) {
    return fail(ErrorKind::kUsage, "learning.bad_signal", "signal: {}: expected {}, found {}", field,
                expected, found);
  };
  const size_t n = signal.tokens.size();
  if (signal.scope.tenant.empty() || signal.scope.tenant.size() > 64)
    return bad("tenant", "1 to 64 bytes", signal.scope.tenant.size());
  if (signal.scope.session.size() > 128)
    return bad("session", "at most 128 bytes", signal.scope.session.size());
  if (n < 2 || n > limits.max_tokens) return bad("tokens", fmt::format("2 to {}", limits.max_tokens), n);
  if (signal.n_context < 1 || signal.n_context >= n)
    return bad("n_context", fmt::format("1 to {}", n - 1), signal.n_context);
  for (const TokenId token : signal.tokens) {
    if (token < 0 || static_cast<size_t>(token) >= limits.n_vocab)
      return bad("tokens", fmt::format("ids below {}", limits.n_vocab), token);
  }
  if (!std::isfinite(signal.weight)) {
    return fail(ErrorKind::kUsage, "learning.not_finite", "signal: weight: expected a number, found {}",
                signal.weight);
  }
  if (!(signal.weight > 0 && signal.weight <= 1)) return bad("weight", "above 0, at most 1", signal.weight);
  if (signal.kind == LearningSignalKind::kQuality && !signal.quality)
    return bad("quality", "a number", "none");
  // Comparisons with NaN do not hold.
  if (signal.quality && !(*signal.quality >= 0 && *signal.quality <= 1)) {
    return fail(ErrorKind::kUsage, "learning.bad_quality", "signal: quality: expected 0 to 1, found {}",
                *signal.quality);
  }
  return {};
}

Sha256Digest signal_content(const LearningSignal& signal) {
  Sha256 hash;
  const uint64_t n = signal.n_context;
  hash.update({reinterpret_cast<const uint8_t*>(&n), sizeof n});
  hash.update(
      {reinterpret_cast<const uint8_t*>(signal.tokens.data()), signal.tokens.size() * sizeof(TokenId)});
  return hash.finish();
}

SignalRing::SignalRing(size_t capacity, size_t max_bytes) : max_bytes_(max_bytes), slots_(capacity) {
  lost_.reserve(kMaxLost);
  freed_.reserve(kMaxLost);
}

size_t SignalRing::bytes_of(const LearningSignal& signal) {
  return sizeof signal + signal.tokens.capacity() * sizeof(TokenId) + signal.scope.tenant.capacity() +
         signal.scope.session.capacity();
}

void SignalRing::drop_oldest() {
  LearningSignal& oldest = slots_[first_];
  n_bytes_ -= bytes_of(oldest);
  if (lost_.size() < kMaxLost) lost_.push_back(std::move(oldest));
  oldest = LearningSignal();
  first_ = (first_ + 1) % slots_.size();
  --n_waiting_;
}

void SignalRing::put(LearningSignal signal) {
  const size_t n_bytes = bytes_of(signal);
  const std::lock_guard lock(mutex_);
  while (n_waiting_ == slots_.size() || (n_waiting_ > 0 && n_bytes_ + n_bytes > max_bytes_)) {
    drop_oldest();
    ++n_overwritten_;
  }
  LearningSignal& slot = slots_[(first_ + n_waiting_++) % slots_.size()];
  slot = std::move(signal);
  n_bytes_ += bytes_of(slot);
  ++n_put_;
}

std::optional<LearningSignal> SignalRing::take() {
  freed_.clear();  // without the lock
  const std::lock_guard lock(mutex_);
  std::swap(freed_, lost_);
  if (n_waiting_ == 0) return std::nullopt;
  LearningSignal& oldest = slots_[first_];
  n_bytes_ -= bytes_of(oldest);
  std::optional<LearningSignal> taken(std::move(oldest));
  oldest = LearningSignal();
  first_ = (first_ + 1) % slots_.size();
  --n_waiting_;
  return taken;
}

size_t SignalRing::forget(const std::string& tenant, const std::optional<std::string>& session) {
  const std::lock_guard lock(mutex_);
  std::vector<LearningSignal> kept;
  size_t n_forgotten = 0;
  for (; n_waiting_ > 0; --n_waiting_, first_ = (first_ + 1) % slots_.size()) {
    LearningSignal signal = std::exchange(slots_[first_], LearningSignal());
    if (belongs(signal.scope, tenant, session)) {
      n_bytes_ -= bytes_of(signal);
      ++n_forgotten;
    } else {
      kept.push_back(std::move(signal));
    }
  }
  lost_.clear();
  first_ = 0;
  n_waiting_ = kept.size();
  for (size_t i = 0; i < kept.size(); ++i) slots_[i] = std::move(kept[i]);
  return n_forgotten;
}

SignalRing::Stats SignalRing::stats() const {
  const std::lock_guard lock(mutex_);
  return {n_waiting_, n_put_, n_overwritten_};
}

}  // namespace ruvltra
