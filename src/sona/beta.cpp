#include "sona/beta.h"

#include <algorithm>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr double kQuantile = 0.05;
constexpr double kHalfLifeUs = 30.0 * 24 * 3600 * 1e6;

// Errors as values: nothing is thrown, a result out of range is clamped below.
using Quiet = boost::math::policies::policy<
    boost::math::policies::domain_error<boost::math::policies::ignore_error>,
    boost::math::policies::pole_error<boost::math::policies::ignore_error>,
    boost::math::policies::overflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::underflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::evaluation_error<boost::math::policies::ignore_error>,
    boost::math::policies::promote_double<false>>;

}  // namespace

BetaCounts beta_start(PatternKind kind, double quality) {
  CHECK(quality >= 0 && quality <= 1);
  const BetaCounts counts{1 + 2 * quality, 1 + 2 * (1 - quality)};
  return kind == PatternKind::kAvoid ? BetaCounts{counts.b, counts.a} : counts;
}

double beta_lcb(const BetaCounts& counts) {
  CHECK(counts.a > 0 && counts.b > 0 && std::isfinite(counts.a) && std::isfinite(counts.b));
  const double x = boost::math::ibeta_inv(counts.a, counts.b, kQuantile, Quiet());
  return std::isfinite(x) ? std::clamp(x, 0.0, 1.0) : 0;
}

double recency(int64_t now_us, int64_t last_used_us) {
  const double age = static_cast<double>(now_us) - static_cast<double>(last_used_us);
  return std::exp2(-std::max(age, 0.0) / kHalfLifeUs);
}

double lasting_value(double lcb, int64_t last_used_us) {
  return std::log2(std::max(lcb, std::numeric_limits<double>::min())) +
         static_cast<double>(last_used_us) / kHalfLifeUs;
}

}  // namespace ruvltra
