#include "grammar/byte_trie.h"

#include <algorithm>
#include <numeric>

namespace ruvltra {

// Breadth first over ranges of the sorted strings: a node is a range that agrees in its first `depth` bytes.
ByteTrie::ByteTrie(std::span<const std::string> strings) {
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<uint32_t> order(strings.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return strings[a] < strings[b]; });
  order.erase(std::unique(order.begin(), order.end(),
                          [&](uint32_t a, uint32_t b) { return strings[a] == strings[b]; }),
              order.end());
  std::vector<Range> ranges{{0, order.size(), 0}};
  nodes_.emplace_back();
  for (size_t node = 0; node < ranges.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    nodes_[node].first_below = static_cast<uint32_t>(below_.size());
    nodes_[node].n_below = static_cast<uint32_t>(end - begin);
    for (size_t i = begin; i < end; ++i) below_.push_back(order[i]);
    std::sort(below_.end() - static_cast<std::ptrdiff_t>(end - begin), below_.end());
    if (begin < end && strings[order[begin]].size() == depth) nodes_[node].number = order[begin++];
    nodes_[node].first_edge = static_cast<uint32_t>(edges_.size());
    while (begin < end) {
      const char byte = strings[order[begin]][depth];
      size_t next = begin + 1;
      while (next < end && strings[order[next]][depth] == byte) ++next;
      edges_.push_back({static_cast<uint8_t>(byte), static_cast<uint32_t>(nodes_.size())});
      nodes_.emplace_back();
      ranges.push_back({begin, next, depth + 1});
      begin = next;
    }
    nodes_[node].n_edges = static_cast<uint32_t>(edges_.size()) - nodes_[node].first_edge;
  }
}

uint32_t ByteTrie::child(uint32_t node, uint8_t byte) const {
  const Edge* begin = edges_.data() + nodes_[node].first_edge;
  const Edge* end = begin + nodes_[node].n_edges;
  const Edge* found =
      std::lower_bound(begin, end, byte, [](const Edge& edge, uint8_t wanted) { return edge.byte < wanted; });
  return found != end && found->byte == byte ? found->node : kNone;
}

}  // namespace ruvltra
