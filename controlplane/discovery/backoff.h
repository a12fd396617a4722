// How long to wait before a source that failed is asked again.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_BACKOFF_H
#define SLUICE_CONTROLPLANE_DISCOVERY_BACKOFF_H

#include <chrono>
#include <random>

namespace sluice {

/// After `failures` in a row (at least 1): twice as long each time from a second on, at most `longest`, less
/// a random part of up to half, so that the hosts of a fleet do not come back together.
std::chrono::milliseconds backoff(unsigned failures, std::chrono::milliseconds longest,
                                  std::mt19937_64 &random);

}  // namespace sluice

#endif
