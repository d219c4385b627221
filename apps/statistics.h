// Figures of samples; the mean is mean_of() of base/mean.h.
#pragma once

#include <span>
#include <vector>

namespace ruvltra {

// Of no values all are 0.
double deviation(std::span<const double> values);             // of a sample; of one value 0
double median(std::vector<double> values);                    // of two middle ones their mean
double quantile(std::vector<double> values, double portion);  // that so many are below; 0.99: p99

}  // namespace ruvltra
