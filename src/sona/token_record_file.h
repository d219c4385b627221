// Token records as sections of an RVC1 container: one set of them under each prefix letter.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/container.h"
#include "sona/token_record.h"

namespace ruvltra {

// Tags of the sections of a set: prefix 'c' gives "cHED", "cNUM", ...
std::array<uint32_t, 6> record_tags(char prefix);

// Column by column, ready to be written. Only records made at the zero adapter can be kept.
class RecordColumns {
 public:
  explicit RecordColumns(const TokenRecords& records);
  // The object must stay until the container has been written.
  void add_to(ContainerWriter& writer, char prefix) const;

 private:
  std::vector<uint32_t> heads_;  // (n, 2): token, number of ids
  std::vector<float> numbers_;   // (n, 4): lse, logit, tail, |h|
  std::vector<float> features_;  // (n, m)
  std::vector<uint32_t> ids_;
  std::vector<uint32_t> log_p_;  // the bits of an f16 each
  std::vector<double> k_state_;
};

// Appends the set to `records`, whose m and V it must have. Errors: those of Container; records.values if a
// number is out of range, records.full.
Result<void> read_records(const Container& container, char prefix, std::string_view name,
                          TokenRecords& records);

}  // namespace ruvltra
