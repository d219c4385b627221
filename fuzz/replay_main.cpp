// Runs a fuzz harness without libFuzzer: every file of a corpus folder once, and a fixed number of mutations
// of each, always the same ones.  Usage: PROGRAM FOLDER [MUTATIONS_PER_FILE]
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;
using Input = std::vector<uint8_t>;

constexpr int kSkip = 77;
constexpr size_t kMaxBytes = 65'536;

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Input read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), {});
}

void run(const Input& input) {
  // An exact-size copy, so that a sanitizer sees the first byte read past the end.
  const std::vector<uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

class Mutator {
 public:
  explicit Mutator(const std::vector<Input>& corpus) : corpus_(corpus) {}

  Input operator()(Input input) {
    const size_t n_steps = 1 + below(4);
    for (size_t i = 0; i < n_steps; ++i) mutate_once(input);
    input.resize(std::min(input.size(), kMaxBytes));
    return input;
  }

 private:
  // The standard leaves the distributions to the implementation; a remainder is the same everywhere.
  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }

  void mutate_once(Input& input) {
    if (input.empty()) return splice(input);
    switch (below(6)) {
      case 0:
        input[below(input.size())] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        input[below(input.size())] = static_cast<uint8_t>(below(256));
        break;
      case 2:
        input.resize(below(input.size()));
        break;
      case 3:
        put_extreme_integer(input);
        break;
      case 4:
        remove_piece(input);
        break;
      default:
        splice(input);
        break;
    }
  }

  void put_extreme_integer(Input& input) {
    constexpr std::array<uint64_t, 8> kValues = {
        0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, ~uint64_t{0} >> 1, ~uint64_t{0}};
    const uint64_t value = kValues[below(kValues.size())];
    const size_t begin = below(input.size());
    const size_t n_bytes = std::min(size_t{1} << below(4), input.size() - begin);
    for (size_t i = 0; i < n_bytes; ++i) input[begin + i] = static_cast<uint8_t>(value >> 8 * i);
  }

  void remove_piece(Input& input) {
    const size_t begin = below(input.size());
    const size_t n_bytes = std::min(1 + below(64), input.size() - begin);
    const auto first = input.begin() + static_cast<std::ptrdiff_t>(begin);
    input.erase(first, first + static_cast<std::ptrdiff_t>(n_bytes));
  }

  // Inserts a piece of some file of the corpus.
  void splice(Input& input) {
    const Input& other = corpus_[below(corpus_.size())];
    if (other.empty()) return;
    const size_t begin = below(other.size());
    const size_t n_bytes = std::min(1 + below(256), other.size() - begin);
    const auto first = other.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto at = input.begin() + static_cast<std::ptrdiff_t>(below(input.size() + 1));
    input.insert(at, first, first + static_cast<std::ptrdiff_t>(n_bytes));
  }

  const std::vector<Input>& corpus_;
  std::mt19937_64 random_{20'240'501};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [MUTATIONS_PER_FILE]\n", argv[0]);
    return 2;
  }
  const auto files = files_in(argv[1]);
  if (files.empty()) {
    std::printf("SKIP: no corpus in %s\n", argv[1]);
    return kSkip;
  }
  const long n_mutations = argc > 2 ? std::atol(argv[2]) : 300;
  std::vector<Input> corpus;
  for (const auto& file : files) corpus.push_back(read(file));
  Mutator mutate(corpus);
  for (const Input& input : corpus) {
    run(input);
    for (long i = 0; i < n_mutations; ++i) run(mutate(input));
  }
  std::printf("%zu files, %ld mutations each: no fault\n", corpus.size(), n_mutations);
  return 0;
}
