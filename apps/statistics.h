// Figures of samples.
#pragma once

#include <span>
#include <vector>

namespace ruvltra {

// Of no values all are 0.
double mean(std::span<const double> values);
double deviation(std::span<const double> values);             // of a sample; of one value 0
double median(std::vector<double> values);                    // of two middle ones their mean
double quantile(std::vector<double> values, double portion);  // that so many are below; 0.99: p99

}  // namespace ruvltra
