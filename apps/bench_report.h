// Printing what `bench` measured: llama-bench's columns and fields, then ours.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "bench_run.h"

namespace ruvltra {

// Share of the read bandwidth measured beside it that a decode test reached, in percent.
std::optional<double> share_of_bandwidth(const BenchMeasurement& measurement);

// A line of CSV on stdout, after one with the names if `with_names`. Every value is quoted.
void print_csv(const Json& document, bool with_names);

// Writes measurements to stdout as they come.
class BenchReport {
 public:
  // form: md, csv, json or jsonl.
  BenchReport(std::string form, const LoadedWeights& model, bool use_mmap)
      : form_(std::move(form)), model_(model), use_mmap_(use_mmap) {}

  void begin();
  void add(const BenchMeasurement& measurement);
  void end();

 private:
  Json document(const BenchMeasurement& measurement) const;
  void add_md(const BenchMeasurement& measurement);

  const std::string form_;
  const LoadedWeights& model_;
  const bool use_mmap_;
  std::string steps_;    // rows of the second table
  std::string remarks_;  // lines below the tables
  Json list_;
  bool headed_ = false;
};

}  // namespace ruvltra
