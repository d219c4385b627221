// Inside of store/: how tests and the crash evaluation open a store with parts of their own.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "store/store.h"

namespace ruvltra {

struct StoreParts {
  const char* vfs = nullptr;  // another SQLite VFS
  std::chrono::milliseconds idle_checkpoint{30'000};
  int checkpoint_pages = 1'000;
  std::chrono::milliseconds reopen_pause{1'000};  // between two attempts after an I/O error
};

Result<std::unique_ptr<Store>> open_store(const std::filesystem::path& folder, const Store::Options& options,
                                          const StoreParts& parts);

}  // namespace ruvltra
