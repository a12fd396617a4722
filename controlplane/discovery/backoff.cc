#include "controlplane/discovery/backoff.h"

#include <algorithm>
#include <cstdint>

namespace sluice {

std::chrono::milliseconds backoff(unsigned failures, std::chrono::milliseconds longest,
                                  std::mt19937_64 &random) {
  constexpr std::chrono::milliseconds kFirst{1000};
  constexpr unsigned kMostDoublings = 20;
  const unsigned doublings = std::min(failures > 0 ? failures - 1 : 0, kMostDoublings);
  const int64_t whole = std::min(longest.count(), kFirst.count() << doublings);
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>((whole + 1) / 2, whole)(random));
}

}  // namespace sluice
