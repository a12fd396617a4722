// How many checks of a kind have ended, how, and how long they took.
#ifndef SLUICE_CONTROLPLANE_HEALTH_CHECK_TOTALS_H
#define SLUICE_CONTROLPLANE_HEALTH_CHECK_TOTALS_H

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>

#include "controlplane/health/check.h"

namespace sluice {

struct CheckTotals {
  /// The longest durations of each bucket but the last, which has no end.
  static constexpr std::array<std::chrono::milliseconds, 12> kBounds = {
      std::chrono::milliseconds(1),    std::chrono::milliseconds(2),    std::chrono::milliseconds(5),
      std::chrono::milliseconds(10),   std::chrono::milliseconds(20),   std::chrono::milliseconds(50),
      std::chrono::milliseconds(100),  std::chrono::milliseconds(200),  std::chrono::milliseconds(500),
      std::chrono::milliseconds(1000), std::chrono::milliseconds(2000), std::chrono::milliseconds(5000)};

  std::array<uint64_t, 3> by_outcome{};              // by CheckOutcome
  std::array<uint64_t, kBounds.size() + 1> taken{};  // by duration, of those that were carried out
  std::chrono::nanoseconds sum{0};                   // of these durations

  void count(CheckOutcome outcome, std::chrono::nanoseconds duration) {
    by_outcome[static_cast<size_t>(outcome)]++;
    if (outcome == CheckOutcome::kNotCarriedOut) return;
    taken[static_cast<size_t>(std::ranges::lower_bound(kBounds, duration) - kBounds.begin())]++;
    sum += duration;
  }
};

/// By the name of the kind: "http".
using CheckTotalsByKind = std::map<std::string_view, CheckTotals>;

}  // namespace sluice

#endif
