#include "controlplane/api/rate_limiter.h"

#include <gtest/gtest.h>

namespace sluice::api {
namespace {

using namespace std::chrono_literals;

const RateLimiter::Clock::time_point kStart{1h};

TEST(RateLimiter, lets_a_burst_through_and_then_so_many_a_second) {
  RateLimiter limiter(2, 3);
  for (int i = 0; i < 3; i++) EXPECT_FALSE(limiter.take("a", kStart));
  EXPECT_EQ(limiter.take("a", kStart), 500ms);
  EXPECT_EQ(limiter.take("a", kStart + 400ms), 100ms);
  EXPECT_FALSE(limiter.take("a", kStart + 500ms));
  EXPECT_EQ(limiter.take("a", kStart + 500ms), 500ms);
}

TEST(RateLimiter, keys_do_not_share) {
  RateLimiter limiter(1, 1);
  EXPECT_FALSE(limiter.take("a", kStart));
  EXPECT_TRUE(limiter.take("a", kStart));
  EXPECT_FALSE(limiter.take("b", kStart));
}

TEST(RateLimiter, remembers_a_bounded_number_of_keys_and_forgets_those_that_rest) {
  RateLimiter limiter(1, 1, 100);
  for (int i = 0; i < 1000; i++) limiter.take(std::to_string(i), kStart);
  EXPECT_LE(limiter.keys(), 101u);
  EXPECT_TRUE(limiter.take("one more", kStart));  // those without room share a bucket
  EXPECT_FALSE(limiter.take("one more", kStart + 2s));
  EXPECT_EQ(limiter.keys(), 1u);
}

}  // namespace
}  // namespace sluice::api
