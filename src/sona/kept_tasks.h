// Held-out text of the tasks that are over: what is forgotten of each is measured on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ruvltra/learning.h"
#include "sona/ewc.h"
#include "sona/lora_gradient.h"
#include "sona/token_record.h"

namespace ruvltra {

// Tasks that are kept, the oldest go first; tokens of each.
inline constexpr size_t kMaxKeptTasks = 10, kMaxKeptTokens = 64 * kFisherBatch;

// A whole text, or the part of it that fitted.
struct KeptText {
  uint32_t task = 0;  // which of the names
  uint32_t end = 0;   // its records end before this one; they begin where the last text's end
  uint64_t owner = 0;
  double nll = 0;  // mean, at its task's boundary
};

// *Thread safety*: none. Memory is that of the records it holds, and none before the first task. Texts serve
// to judge only: whoever puts them in keeps them out of training.
class KeptTasks {
 public:
  using Nll = std::function<double(const Batch& batch)>;  // mean NLL with what is live
  // options: the shape of the records; its capacity is of no account.
  explicit KeptTasks(const TokenRecords::Options& options) : options_(options) {}

  // The latest of `texts`, kMaxKeptTokens at most, as those of a task that ends here. Text i is the records
  // [begins[i], begins[i + 1]) and owners[i]'s. No texts: nothing is kept of the task.
  void add(const std::string& task, const TokenRecords& records, std::span<const uint32_t> begins,
           std::span<const uint64_t> owners, const Nll& nll);
  // The texts of an owner go; how many. *Requires*: owner != 0.
  size_t forget(uint64_t owner);
  // One for each task that has text, the oldest first.
  std::vector<TaskForgetting> forgotten(const Nll& nll) const;

  const std::vector<std::string>& names() const { return names_; }
  std::span<const KeptText> texts() const { return texts_; }
  const TokenRecords* records() const { return records_.get(); }  // null: none
  // From a file. False if they do not fit each other.
  bool restore(std::vector<std::string> names, std::vector<KeptText> texts,
               std::unique_ptr<TokenRecords> records);

 private:
  struct Source {
    const TokenRecords* records;
    uint32_t begin, end;
    KeptText text;
  };
  void take(std::span<const Source> sources);

  TokenRecords::Options options_;
  std::vector<std::string> names_;
  std::vector<KeptText> texts_;  // of a task together, tasks in their order
  std::unique_ptr<TokenRecords> records_;
};

}  // namespace ruvltra
