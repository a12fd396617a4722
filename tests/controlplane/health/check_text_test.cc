#include "controlplane/health/check_text.h"

#include <cerrno>

#include <curl/curl.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

CheckResult judge_failed_connect(int system_error, bool no_source = false) {
  return judge_check(
      {}, {.curl_code = CURLE_COULDNT_CONNECT, .system_error = system_error, .no_source = no_source});
}

TEST(JudgeCheck, a_shortage_of_this_host_says_nothing_of_the_backend) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL}) {
    EXPECT_EQ(judge_failed_connect(error).outcome, CheckOutcome::kNotCarriedOut) << error;
  }
}

TEST(JudgeCheck, a_host_without_a_source_address_cannot_reach_the_backend) {
  const CheckResult result = judge_failed_connect(EADDRNOTAVAIL, true);
  EXPECT_EQ(result.outcome, CheckOutcome::kFailure);
  EXPECT_EQ(result.text, "this host has no source address to reach it from");
}

TEST(JudgeCheck, what_the_network_says_is_a_failure) {
  for (const int error : {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT}) {
    EXPECT_EQ(judge_failed_connect(error).outcome, CheckOutcome::kFailure) << error;
  }
}

}  // namespace
}  // namespace sluice
