#include "tools/bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace sluice::bench {

namespace {

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
}

}  // namespace

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

double tsc_hz() {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const uint64_t first = read_tsc();
  while (Clock::now() - start < std::chrono::milliseconds(100)) {
  }
  const uint64_t last = read_tsc();
  const std::chrono::duration<double> passed = Clock::now() - start;
  return static_cast<double>(last - first) / passed.count();
}

uint64_t tsc_pair_cycles() {
  std::vector<double> pairs;
  for (int i = 0; i < 10001; i++) {
    const uint64_t start = read_tsc();
    pairs.push_back(static_cast<double>(read_tsc() - start));
  }
  return static_cast<uint64_t>(median(std::move(pairs)));
}

std::vector<Outcome> interleave(const std::vector<Contestant> &contestants, uint32_t rounds, double tsc_hz) {
  for (const Contestant &contestant : contestants) contestant.run();
  std::vector<std::vector<double>> cycles(contestants.size());
  std::vector<std::vector<double>> ratios(contestants.size());
  for (uint32_t round = 0; round < rounds; round++) {
    for (size_t i = 0; i < contestants.size(); i++) {
      cycles[i].push_back(contestants[i].run());
      ratios[i].push_back(cycles[i].back() / cycles[0].back());
    }
  }
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < contestants.size(); i++) {
    const double middle = median(cycles[i]);
    outcomes.push_back({contestants[i].name, middle, middle * 1e9 / tsc_hz,
                        quantile(cycles[i], 0.25) * 1e9 / tsc_hz, median(ratios[i])});
  }
  return outcomes;
}

void Report::section(const std::string &title, const std::vector<std::string> &columns) {
  widths_.clear();
  for (const std::string &column : columns) widths_.push_back(std::max<size_t>(column.size() + 2, 12));
  if (audience_ != Audience::kPeople) return;
  std::printf("\n%s\n", title.c_str());
  for (size_t i = 0; i < columns.size(); i++) {
    if (i == 0) std::printf("  %-34s", columns[i].c_str());
    if (i > 0) std::printf("%*s", static_cast<int>(widths_[i]), columns[i].c_str());
  }
  std::printf("\n");
}

void Report::line(const std::vector<std::string> &cells, const nlohmann::json &object) {
  results_.push_back(object);
  if (audience_ != Audience::kPeople) return;
  std::printf("  %-34s", cells.front().c_str());
  for (size_t i = 1; i < cells.size(); i++)
    std::printf("%*s", static_cast<int>(widths_[i]), cells[i].c_str());
  std::printf("\n");
  std::fflush(stdout);
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), value != 0 && value < 0.1 ? "%.4f" : "%.1f", value);
  return text;
}

}  // namespace sluice::bench
