// The time of day that graces and deadlines are reckoned by: it goes on evenly, whatever becomes of the
// host's clock. A step of that (NTP at boot, an operator) would otherwise end the grace of removed backends
// at once, or never: who notices one moves the times that are kept by as much, and then lets this clock
// follow.
#ifndef SLUICE_CONTROLPLANE_SLUICED_UNIX_CLOCK_H
#define SLUICE_CONTROLPLANE_SLUICED_UNIX_CLOCK_H

#include <chrono>
#include <cstdint>

#include "controlplane/lifecycle/lifecycle.h"

namespace sluice {

class UnixClock {
 public:
  uint64_t unix_ns() const {
    const auto passed = std::chrono::steady_clock::now() - steady_start_;
    const auto now = start_.time_since_epoch() + passed;
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  }
  /// How far the host's clock is ahead of this one by now: it was set.
  std::chrono::seconds host_ahead() const {
    const auto host = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::round<std::chrono::seconds>(host - std::chrono::nanoseconds(unix_ns()));
  }
  /// Goes on from where the host's clock is now.
  void follow_host() {
    start_ = std::chrono::system_clock::now();
    steady_start_ = std::chrono::steady_clock::now();
  }
  uint64_t unix_s() const { return unix_ns() / 1'000'000'000; }
  int64_t unix_ms() const { return static_cast<int64_t>(unix_ns() / 1'000'000); }
  Moment now() const { return {std::chrono::steady_clock::now(), static_cast<int64_t>(unix_s())}; }

 private:
  std::chrono::system_clock::time_point start_ = std::chrono::system_clock::now();
  std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

}  // namespace sluice

#endif
