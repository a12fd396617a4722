#include "controlplane/api/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace sluice::api {

namespace {

constexpr std::chrono::seconds kLookThroughInterval{1};

}  // namespace

double RateLimiter::filled(const Bucket &bucket, Clock::time_point now) const {
  const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
  return std::min(burst_, bucket.tokens + std::max(seconds, 0.0) * per_second_);
}

// A full bucket is what a key that nobody has seen gets.
void RateLimiter::forget_full(Clock::time_point now) {
  if (now - looked_through_ < kLookThroughInterval) return;
  looked_through_ = now;
  std::erase_if(buckets_, [&](const auto &each) { return filled(each.second, now) >= burst_; });
}

RateLimiter::Bucket &RateLimiter::bucket_of(const std::string &key, Clock::time_point now) {
  const auto found = buckets_.find(key);
  if (found != buckets_.end()) return found->second;
  if (buckets_.size() >= max_keys_) forget_full(now);
  const bool is_full = buckets_.size() >= max_keys_;
  return buckets_.try_emplace(is_full ? std::string() : key, Bucket{burst_, now}).first->second;
}

std::optional<std::chrono::milliseconds> RateLimiter::take(const std::string &key, Clock::time_point now) {
  Bucket &bucket = bucket_of(key, now);
  bucket = {filled(bucket, now), now};
  if (bucket.tokens < 1) {
    const double seconds = (1 - bucket.tokens) / per_second_;
    return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
  }
  bucket.tokens -= 1;
  return std::nullopt;
}

}  // namespace sluice::api
