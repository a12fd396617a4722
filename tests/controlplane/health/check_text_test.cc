#include "controlplane/health/check_text.h"

#include <cerrno>

#include <curl/curl.h>
#include <gtest/gtest.h>

#include "controlplane/health/probes/system_error.h"

namespace sluice {
namespace {

TEST(JudgeSystemError, a_shortage_of_this_host_says_nothing_of_the_backend) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL}) {
    EXPECT_EQ(judge_system_error(error, SourceAddress::kExists).outcome, CheckOutcome::kNotCarriedOut)
        << error;
  }
}

TEST(JudgeSystemError, a_host_without_a_source_address_cannot_reach_the_backend) {
  const CheckResult result = judge_system_error(EADDRNOTAVAIL, SourceAddress::kMissing);
  EXPECT_EQ(result.outcome, CheckOutcome::kFailure);
  EXPECT_EQ(result.text, "this host has no source address to reach it from");
}

TEST(JudgeSystemError, what_the_network_says_is_a_failure) {
  for (const int error : {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT}) {
    EXPECT_EQ(judge_system_error(error, SourceAddress::kExists).outcome, CheckOutcome::kFailure) << error;
  }
}

TEST(JudgeTransfer, a_shortage_of_this_host_says_nothing_of_the_backend) {
  const auto shortage = judge_transfer({}, {.curl_code = CURLE_COULDNT_CONNECT, .system_error = EMFILE});
  ASSERT_TRUE(shortage.has_value());
  EXPECT_EQ(shortage->outcome, CheckOutcome::kNotCarriedOut);
  const auto memory = judge_transfer({}, {.curl_code = CURLE_OUT_OF_MEMORY});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->outcome, CheckOutcome::kNotCarriedOut);
}

}  // namespace
}  // namespace sluice
