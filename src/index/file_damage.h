// Damaging index files on purpose, to see that none of them is believed.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "kernels/table.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct DamageReport {
  uint64_t n_files = 0, n_detected = 0;
  std::map<std::string, uint64_t> by_reason;  // error id -> files
  std::map<std::string, uint64_t> missed;     // kind of damage -> files that were believed
  std::map<std::string, uint64_t> by_damage;  // kind of damage -> files
};

// Makes small index files (erased vectors and free slots in them), damages `count` copies, one way each, and
// loads them: changed bits and bytes, pieces cut out, put in or moved, truncation, a stale or foreign source,
// and, with every hash repaired, fields that break one promise of the format. A file that is believed is
// searched, so that a sanitizer sees what it leads to. Same seed, same files. Errors: only what making the
// files may give.
Result<DamageReport> damage_index_files(uint64_t count, uint64_t seed, const KernelTable& kernels);

}  // namespace ruvltra
