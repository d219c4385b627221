#include "sona/adapter_merge.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/fail.h"

namespace ruvltra {

Result<Adapter> merge_adapters(std::span<const std::shared_ptr<const Adapter>> parts,
                               const MergeOptions& options) {
  if (parts.empty())
    return fail(ErrorKind::kUsage, "learning.few_parts", "merge: expected at least one adapter, found none");
  if (!(options.max_norm_ratio > 0) || !(options.trim >= 0 && options.trim < 0.5)) {
    return fail(ErrorKind::kUsage, "learning.merge_options",
                "merge: expected a norm ratio above 0 and a trimmed share of 0 to 0.5, found {} and {}",
                options.max_norm_ratio, options.trim);
  }
  const auto& basis = parts[0]->shared_basis();
  std::vector<double> norms;
  for (const auto& part : parts) {
    if (part->basis().hash() != basis->hash()) {
      return fail("learning.model_mismatch", "merge: expected adapters of basis {}, found one of another",
                  to_hex(basis->hash()).substr(0, 12));
    }
    norms.push_back(euclidean_norm(part->b().data(), part->b().size()));
  }
  std::vector<double> sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  // The lower median: half hostile parts cannot raise it.
  const double most = options.max_norm_ratio * sorted[(sorted.size() - 1) / 2];
  auto n_trimmed = static_cast<size_t>(options.trim * static_cast<double>(parts.size()));
  if (parts.size() >= 3 && options.trim > 0) n_trimmed = std::max<size_t>(n_trimmed, 1);
  const size_t n_kept = parts.size() - 2 * n_trimmed;
  std::vector<float> merged(parts[0]->b().size());
  std::vector<double> values(parts.size());
  for (size_t i = 0; i < merged.size(); ++i) {
    for (size_t k = 0; k < parts.size(); ++k) {
      const double factor = norms[k] > most ? most / norms[k] : 1;
      values[k] = factor * static_cast<double>(parts[k]->b()[i]);
    }
    std::sort(values.begin(), values.end());
    double sum = 0;
    for (size_t k = n_trimmed; k < n_trimmed + n_kept; ++k) sum += values[k];
    merged[i] = static_cast<float>(sum / static_cast<double>(n_kept));
  }
  return Adapter::make(basis, std::move(merged));
}

}  // namespace ruvltra
