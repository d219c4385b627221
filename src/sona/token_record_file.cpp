#include "sona/token_record_file.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/num.h"

namespace ruvltra {
namespace {

constexpr size_t kRecordNumbers = 4;

uint32_t tag(char prefix, const char (&name)[4]) {
  return section_tag({prefix, name[0], name[1], name[2], '\0'});
}

bool valid(const TokenRecord& record, size_t n_rows) {
  const bool numbers =
      record.tail >= 0 && record.tail <= 1 && record.hidden_norm >= 0 && record.token < n_rows;
  if (!numbers || record.ids.empty() || record.ids.back() >= n_rows) return false;
  for (size_t i = 1; i < record.ids.size(); ++i)
    if (record.ids[i - 1] >= record.ids[i]) return false;
  if (!std::binary_search(record.ids.begin(), record.ids.end(), record.token)) return false;
  // Logarithms of probabilities, rounded.
  const bool clipped = std::all_of(record.features.begin(), record.features.end(),
                                   [](float value) { return std::abs(value) <= kFeatureClip; });
  return clipped && std::all_of(record.log_p.begin(), record.log_p.end(), [](f16_t value) {
           const float x = f16_to_f32(value);
           return std::isfinite(x) && x <= 0.01f;
         });
}

}  // namespace

std::array<uint32_t, 6> record_tags(char prefix) {
  return {tag(prefix, "HED"), tag(prefix, "NUM"), tag(prefix, "FEA"),
          tag(prefix, "IDS"), tag(prefix, "LGP"), tag(prefix, "KST")};
}

RecordColumns::RecordColumns(const TokenRecords& records) {
  for (size_t i = 0; i < records.size(); ++i) {
    const TokenRecord record = records[i];
    CHECK(record.made_at.empty());
    heads_.insert(heads_.end(), {record.token, static_cast<uint32_t>(record.ids.size())});
    numbers_.insert(numbers_.end(), {record.lse, record.logit, record.tail, record.hidden_norm});
    features_.insert(features_.end(), record.features.begin(), record.features.end());
    ids_.insert(ids_.end(), record.ids.begin(), record.ids.end());
    for (const f16_t value : record.log_p) log_p_.push_back(static_cast<uint32_t>(value));
  }
  const auto k = records.k_state();
  k_state_ = {k.top_k, k.n_in_window, k.window_tail};
}

void RecordColumns::add_to(ContainerWriter& writer, char prefix) const {
  const auto tags = record_tags(prefix);
  writer.add(tags[0], heads_);
  writer.add(tags[1], numbers_);
  writer.add(tags[2], features_);
  writer.add(tags[3], ids_);
  writer.add(tags[4], log_p_);
  writer.add(tags[5], k_state_);
}

Result<void> read_records(const Container& container, char prefix, std::string_view name,
                          TokenRecords& records) {
  const auto tags = record_tags(prefix);
  const size_t m = records.n_features();
  ASSIGN_OR_RETURN(const uint64_t n_heads, container.count<uint32_t>(tags[0]));
  ASSIGN_OR_RETURN(const uint64_t n_ids, container.count<uint32_t>(tags[3]));
  const uint64_t n = n_heads / 2;
  ASSIGN_OR_RETURN(const auto heads, container.read<uint32_t>(tags[0], 2 * n));
  ASSIGN_OR_RETURN(const auto numbers, container.read<float>(tags[1], kRecordNumbers * n));
  ASSIGN_OR_RETURN(const auto features, container.read<float>(tags[2], m * n));
  ASSIGN_OR_RETURN(const auto ids, container.read<uint32_t>(tags[3], n_ids));
  ASSIGN_OR_RETURN(const auto bits, container.read<uint32_t>(tags[4], n_ids));
  ASSIGN_OR_RETURN(const auto k_state, container.read<double>(tags[5], 3));
  std::vector<f16_t> log_p;
  for (const uint32_t value : bits) log_p.push_back(static_cast<f16_t>(value));
  size_t begin = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t count = heads[2 * i + 1];
    if (count > n_ids - begin) {
      return fail("records.values", "{}: record {}: expected at most {} more ids, found {}", name, i,
                  n_ids - begin, count);
    }
    const float* number = numbers.data() + kRecordNumbers * i;
    TokenRecord record;
    record.token = heads[2 * i];
    record.lse = number[0];
    record.logit = number[1];
    record.tail = number[2];
    record.hidden_norm = number[3];
    record.features = std::span(features).subspan(i * m, m);
    record.ids = std::span(ids).subspan(begin, count);
    record.log_p = std::span(log_p).subspan(begin, count);
    if (!valid(record, records.n_rows())) {
      return fail("records.values",
                  "{}: record {}: expected ascending ids below {}, the token {} among them, and "
                  "probabilities, found others",
                  name, i, records.n_rows(), record.token);
    }
    if (!records.restore(record))
      return fail("records.full", "{}: expected at most {} records, found {}", name, i, n);
    begin += count;
  }
  const bool whole = begin == n_ids && k_state[0] >= 1 &&
                     k_state[0] <= static_cast<double>(records.n_rows()) && k_state[1] >= 0 &&
                     k_state[1] < 1e6 && k_state[2] >= 0;
  if (!whole) return fail("records.values", "{}: expected ids of the records alone, found more", name);
  records.set_k_state({k_state[0], k_state[1], k_state[2]});
  return {};
}

}  // namespace ruvltra
