// Measures what takes nanoseconds on a noisy machine: every round runs each contestant once, in turn,
// and a ratio is taken within a round, so that what disturbs a round disturbs all of it. Medians over
// rounds are reported. Absolute figures hold for the machine and the minute; ratios are the result.
#ifndef SLUICE_BENCH_HARNESS_H
#define SLUICE_BENCH_HARNESS_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <x86intrin.h>

namespace sluice::bench {

/// The time stamp counter, after everything before it and before everything after it.
inline uint64_t read_tsc() {
  _mm_lfence();
  const uint64_t now = __rdtsc();
  _mm_lfence();
  return now;
}

/// How fast it counts, measured against the monotonic clock for a tenth of a second.
double tsc_hz();

/// What one read_tsc() pair costs by itself, to be taken off what it encloses. Median of many.
uint64_t tsc_pair_cycles();

/// One way of doing the work. `run` does one round and returns TSC cycles per packet.
struct Contestant {
  std::string name;
  std::function<double()> run;
};

/// One contestant's result, against the first contestant of its group: the floor.
struct Outcome {
  std::string name;
  double cycles = 0;       // TSC cycles per packet, median over rounds
  double ns = 0;           // the same in nanoseconds
  double quartile_ns = 0;  // 25th percentile: what an undisturbed round costs
  double ratio = 0;        // to the floor, median of the rounds' ratios
};

/// Runs `rounds` rounds of all contestants, after one that is not counted. The first is the floor.
std::vector<Outcome> interleave(const std::vector<Contestant> &contestants, uint32_t rounds, double tsc_hz);

/// The median of `values`; 0 of none.
double median(std::vector<double> values);

/// Collects what main() prints as tables and writes as JSON: one object per line of a table.
class Report {
 public:
  /// `people`: also print tables to stdout.
  enum class Audience { kPeople, kMachine };
  explicit Report(Audience audience) : audience_(audience) {}

  void section(const std::string &title, const std::vector<std::string> &columns);
  /// A line: as cells for people, as an object for programs.
  void line(const std::vector<std::string> &cells, const nlohmann::json &object);
  const nlohmann::json &results() const { return results_; }

 private:
  Audience audience_;
  std::vector<size_t> widths_;
  nlohmann::json results_ = nlohmann::json::array();
};

/// "12.3": one digit behind the point; "0.012" for what would vanish.
std::string number(double value);

}  // namespace sluice::bench

#endif
