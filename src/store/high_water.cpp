#include "store/high_water.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/sha256.h"

namespace ruvltra {
namespace {

constexpr char kMagic[] = "RVSEQ001";
constexpr size_t kPayload = 16, kBytes = 40;

std::array<uint8_t, kBytes> encode(int64_t sequence) {
  std::array<uint8_t, kBytes> bytes;
  std::memcpy(bytes.data(), kMagic, 8);
  std::memcpy(bytes.data() + 8, &sequence, sizeof sequence);
  const Sha256Digest digest = sha256(std::span(bytes).first(kPayload));
  std::memcpy(bytes.data() + kPayload, digest.data(), kBytes - kPayload);
  return bytes;
}

}  // namespace

HighWater::~HighWater() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
HighWater::HighWater(HighWater&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
HighWater& HighWater::operator=(HighWater&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Result<HighWater> HighWater::open(const std::filesystem::path& file) {
  HighWater out;
  out.descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out.descriptor_ < 0) {
    return fail(ErrorKind::kIo, "store.unavailable", "{}: cannot open: {}", file.string(),
                std::strerror(errno));
  }
  return out;
}

std::optional<int64_t> HighWater::read() const {
  std::array<uint8_t, kBytes> bytes = {};
  if (descriptor_ < 0 || pread(descriptor_, bytes.data(), kBytes, 0) != static_cast<ssize_t>(kBytes)) {
    return std::nullopt;
  }
  ByteView view(bytes);
  const auto magic = view.take_text(8);
  const auto sequence = view.read<int64_t>();
  if (!magic || !sequence || bytes != encode(*sequence)) return std::nullopt;
  return sequence;
}

bool HighWater::write(int64_t sequence) {
  if (descriptor_ < 0) return true;
  const auto bytes = encode(sequence);
  return pwrite(descriptor_, bytes.data(), kBytes, 0) == static_cast<ssize_t>(kBytes);
}

}  // namespace ruvltra
