// How often something may happen, for each of many keys.
#ifndef SLUICE_CONTROLPLANE_API_RATE_LIMITER_H
#define SLUICE_CONTROLPLANE_API_RATE_LIMITER_H

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>

namespace sluice::api {

/// A bucket of tokens for each key, as many as `burst` at first, `per_second` more each second. Keys that
/// have not been seen for long are forgotten; when there are more than `max_keys`, new ones share a bucket.
class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  RateLimiter(double per_second, double burst, size_t max_keys = 16'384)
      : per_second_(per_second), burst_(burst), max_keys_(max_keys) {}

  /// Takes one; or, when there is none, how long until there will be.
  std::optional<std::chrono::milliseconds> take(const std::string &key, Clock::time_point now);

  void set_rate(double per_second, double burst) {
    per_second_ = per_second;
    burst_ = burst;
  }

  size_t keys() const { return buckets_.size(); }

 private:
  struct Bucket {
    double tokens;
    Clock::time_point filled;
  };

  Bucket &bucket_of(const std::string &key, Clock::time_point now);
  double filled(const Bucket &bucket, Clock::time_point now) const;
  void forget_full(Clock::time_point now);

  double per_second_;
  double burst_;
  size_t max_keys_;
  std::unordered_map<std::string, Bucket> buckets_;
  Clock::time_point looked_through_{};
};

}  // namespace sluice::api

#endif
