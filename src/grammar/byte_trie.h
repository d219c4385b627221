// A set of byte strings, each with a number: the values of an enumeration, the names of an object's members.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ruvltra {

// Thread safety: const after construction.
class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = ~uint32_t{0};

  // String i gets number i. Of equal strings the first one counts.
  explicit ByteTrie(std::span<const std::string> strings);

  // The node that `byte` leads to, or kNone.
  uint32_t child(uint32_t node, uint8_t byte) const;
  bool has_children(uint32_t node) const { return nodes_[node].n_edges > 0; }
  // The number of the string that ends here, or kNone.
  uint32_t number(uint32_t node) const { return nodes_[node].number; }
  // The numbers of all strings that begin with what leads here, ascending.
  std::span<const uint32_t> numbers_below(uint32_t node) const {
    return std::span(below_).subspan(nodes_[node].first_below, nodes_[node].n_below);
  }
  // An upper bound of the memory that a trie of strings with n_bytes in all takes.
  static size_t bytes_for(size_t n_bytes, size_t n_strings) {
    return (n_bytes + 1) * (sizeof(Node) + sizeof(Edge)) + (n_bytes + n_strings) * sizeof(uint32_t);
  }

 private:
  struct Node {
    uint32_t first_edge = 0, n_edges = 0;
    uint32_t first_below = 0, n_below = 0;
    uint32_t number = kNone;
  };
  struct Edge {
    uint8_t byte;
    uint32_t node;
  };
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;  // of each node ascending by byte
  std::vector<uint32_t> below_;
};

}  // namespace ruvltra
