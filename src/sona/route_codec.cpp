// What the router learned of a tenant, as bytes: "RVRH", version, body, SHA-256 of all before it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "sona/route_tenant.h"

namespace ruvltra {
namespace {

constexpr std::string_view kMagic = "RVRH";
constexpr uint32_t kVersion = 1;
constexpr size_t kMaxPredictions = 1'000'000;

class Writer {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  }
  template <class T>
  void put_all(std::span<const T> values) {
    put(static_cast<uint64_t>(values.size()));
    for (const T v : values) put(v);
  }
  void put_text(std::string_view text) {
    put(static_cast<uint64_t>(text.size()));
    out.insert(out.end(), text.begin(), text.end());
  }
  std::vector<uint8_t> out;
};

// Any read beyond the end makes ok() false and gives zeros.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : view_(bytes) {}
  template <class T>
  T get() {
    const auto value = view_.read<T>();
    ok_ = ok_ && value.has_value();
    return value.value_or(T{});
  }
  template <class T>
  std::vector<T> get_all(size_t most) {
    const auto n = get<uint64_t>();
    std::vector<T> out;
    ok_ = ok_ && n <= most && n <= view_.remaining() / sizeof(T);
    if (!ok_) return out;
    for (uint64_t i = 0; i < n; ++i) {
      out.push_back(get<T>());
      if constexpr (std::is_floating_point_v<T>) ok_ = ok_ && std::isfinite(out.back());
    }
    return out;
  }
  std::string get_text(size_t most) {
    const auto n = get<uint64_t>();
    ok_ = ok_ && n <= most;
    const auto text = ok_ ? view_.take_text(n) : std::nullopt;
    ok_ = ok_ && text.has_value();
    return ok_ ? std::string(*text) : std::string();
  }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && view_.remaining() == 0; }

 private:
  ByteView view_;
  bool ok_ = true;
};

void put_weights(Writer& w, const RouteWeights& weights) {
  for (const double a : weights.alpha) w.put(a);
  w.put(weights.temperature);
  w.put(static_cast<uint8_t>(weights.fitted));
}

bool get_weights(Reader& r, RouteWeights& weights) {
  bool valid = true;
  for (double& a : weights.alpha) {
    a = r.get<double>();
    valid = valid && a >= 0 && a < 1e6;
  }
  weights.temperature = r.get<double>();
  weights.fitted = r.get<uint8_t>() != 0;
  return valid && weights.temperature > 0 && weights.temperature < 1e6;
}

}  // namespace

std::string route_tenant_key(std::string_view tenant) { return fmt::format("tenant/{}/router", tenant); }

std::vector<uint8_t> encode_route_tenant(const RouteTenant& tenant) {
  Writer w;
  w.out.assign(kMagic.begin(), kMagic.end());
  w.put(kVersion);
  const auto& agents = tenant.model->registry().agents();
  w.put(static_cast<uint32_t>(agents.size()));
  for (const AgentProfile& agent : agents) w.put_text(agent.id);
  w.put(tenant.model->registry().hash());
  w.put(tenant.head_space);
  const Ewc::State memory = tenant.head.ewc.state();
  w.put_all<float>(tenant.head.head.weights);
  w.put_all<float>(memory.anchor);
  w.put_all<double>(memory.total);
  w.put_all<double>(memory.run);
  w.put(memory.n_batches);
  w.put(static_cast<uint8_t>(memory.has_anchor));
  w.put(tenant.head.n_updates);
  w.put(static_cast<uint64_t>(tenant.head.n_outcomes));
  put_weights(w, tenant.with_prior);
  put_weights(w, tenant.words_only);
  w.put_all<double>(tenant.complexity.weights);
  w.put_all<double>(tenant.complexity.predictions);
  w.put(tenant.complexity.mean);
  w.put(tenant.complexity.tier_accuracy);
  w.put_all<float>(tenant.success.head.weights);
  w.put_all<double>(tenant.success.offsets);
  w.put(tenant.boundary_us);
  w.put(tenant.drift_us);
  w.put(static_cast<uint8_t>(tenant.boundary_pending));
  w.put(tenant.next_boundary_us);
  const Sha256Digest digest = sha256(w.out);
  w.out.insert(w.out.end(), digest.begin(), digest.end());
  return std::move(w.out);
}

Result<void> decode_route_tenant(std::span<const uint8_t> bytes, const RouteModel& model,
                                 RouteTenant& tenant) {
  const auto corrupt = [](std::string_view what) {
    return fail("routing.state", "what the router learned: {}", what);
  };
  const size_t digest_bytes = sizeof(Sha256Digest);
  if (bytes.size() < kMagic.size() + digest_bytes) return corrupt("too short");
  const auto body = bytes.first(bytes.size() - digest_bytes);
  const Sha256Digest digest = sha256(body);
  if (std::memcmp(digest.data(), bytes.data() + body.size(), digest_bytes) != 0) {
    return corrupt("its checksum does not match");
  }
  if (std::memcmp(body.data(), kMagic.data(), kMagic.size()) != 0) return corrupt("unknown kind");
  Reader r(body.subspan(kMagic.size()));
  if (r.get<uint32_t>() != kVersion) return corrupt("unknown version");
  const auto n = r.get<uint32_t>();
  if (!r.ok() || n == 0 || n > kMaxAgents) return corrupt("number of agents");
  std::vector<std::string> ids;
  for (uint32_t i = 0; i < n; ++i) ids.push_back(r.get_text(64));
  const auto registry_hash = r.get<uint64_t>();
  tenant.head_space = r.get<uint64_t>();

  const size_t n_weights = size_t{n} * kRouteDim;
  HeadState old;
  old.head = SoftmaxHead(n);
  old.ewc = Ewc(n_weights, model.initial_head().ewc.lambda());
  Ewc::State memory;
  old.head.weights = r.get_all<float>(n_weights);
  memory.anchor = r.get_all<float>(n_weights);
  memory.total = r.get_all<double>(n_weights);
  memory.run = r.get_all<double>(n_weights);
  memory.n_batches = r.get<uint32_t>();
  memory.has_anchor = r.get<uint8_t>() != 0;
  old.n_updates = r.get<uint64_t>();
  old.n_outcomes = r.get<uint64_t>();
  bool valid = get_weights(r, tenant.with_prior);
  valid = get_weights(r, tenant.words_only) && valid;
  tenant.complexity.weights = r.get_all<double>(kRouteDim);
  tenant.complexity.predictions = r.get_all<double>(kMaxPredictions);
  tenant.complexity.mean = r.get<double>();
  tenant.complexity.tier_accuracy = r.get<double>();
  tenant.success.head = SoftmaxHead(2);
  tenant.success.head.weights = r.get_all<float>(2 * kRouteDim);
  tenant.success.offsets = r.get_all<double>(n);
  tenant.boundary_us = r.get<int64_t>();
  tenant.drift_us = r.get<int64_t>();
  tenant.boundary_pending = r.get<uint8_t>() != 0;
  tenant.next_boundary_us = r.get<int64_t>();
  const auto has = [](size_t size, size_t expected) { return size == 0 || size == expected; };
  valid = valid && r.done() && old.head.weights.size() == n_weights && memory.anchor.size() == n_weights &&
          memory.total.size() == n_weights && memory.run.size() == n_weights &&
          has(tenant.complexity.weights.size(), kRouteDim) && has(tenant.success.offsets.size(), n) &&
          (tenant.success.offsets.empty() || tenant.success.head.weights.size() == 2 * kRouteDim) &&
          (tenant.complexity.weights.empty() || !tenant.complexity.predictions.empty());
  if (!valid) return corrupt("a field is out of range");
  old.ewc.restore(std::move(memory));

  if (registry_hash == model.registry().hash()) {
    tenant.head = std::move(old);
    return {};
  }
  // The registry changed while nobody was there.
  if (old.n_updates > 0) head_boundary(old);
  std::vector<size_t> from;
  for (const AgentProfile& agent : model.registry().agents()) {
    const auto it = std::find(ids.begin(), ids.end(), agent.id);
    from.push_back(it == ids.end() ? kNewLabel : static_cast<size_t>(it - ids.begin()));
  }
  tenant.head = remap_head(old, from, model.initial_head());
  tenant.success = {};
  tenant.with_prior.fitted = tenant.words_only.fitted = false;
  return {};
}

}  // namespace ruvltra
