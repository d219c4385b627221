#include "engine/token_stream.h"

#include <utility>

#include "base/check.h"

namespace ruvltra {

TokenStream::TokenStream(int n_choices, size_t bound, size_t tokens_per_step, Notice on_ready, Notice on_room,
                         size_t n_top)
    : bound_(bound),
      n_top_(n_top),
      on_ready_(std::move(on_ready)),
      on_room_(std::move(on_room)),
      ring_(bound + (tokens_per_step + 1) * static_cast<size_t>(n_choices)),
      n_open_(n_choices) {
  for (StreamItem& item : ring_) item.token.top.reserve(n_top);
}

std::vector<TokenLogprob> TokenStream::spare_top() {
  const std::lock_guard lock(mutex_);
  return std::exchange(ring_[(first_ + n_items_) % ring_.size()].token.top, {});
}

void TokenStream::put(StreamItem item) {
  bool was_empty;
  {
    const std::lock_guard lock(mutex_);
    CHECK(n_items_ < ring_.size());
    was_empty = n_items_ == 0;
    ring_[(first_ + n_items_) % ring_.size()] = std::move(item);
    ++n_items_;
    if (n_items_ >= bound_) full_.store(true, std::memory_order_relaxed);
  }
  ready_.notify_one();
  if (was_empty && on_ready_) on_ready_();
}

bool TokenStream::take(StreamItem& item, std::optional<Clock::time_point> deadline) {
  bool has_room_again = false;
  std::vector<TokenLogprob> room;  // for the place that becomes free: the writer allocates nothing
  room.reserve(n_top_);
  {
    std::unique_lock lock(mutex_);
    if (n_open_ == 0) return false;
    const auto has_item = [this] { return n_items_ > 0; };
    if (!deadline) {
      ready_.wait(lock, has_item);
    } else if (!ready_.wait_until(lock, *deadline, has_item)) {
      return false;
    }
    item = std::move(ring_[first_]);
    ring_[first_] = {};
    ring_[first_].token.top = std::move(room);
    first_ = (first_ + 1) % ring_.size();
    --n_items_;
    if (item.outcome) --n_open_;
    if (full() && n_items_ <= bound_ / 2) {
      full_.store(false, std::memory_order_relaxed);
      has_room_again = true;
    }
  }
  if (has_room_again && on_room_) on_room_();
  return true;
}

bool TokenStream::drained() const {
  const std::lock_guard lock(mutex_);
  return n_open_ == 0;
}

}  // namespace ruvltra
