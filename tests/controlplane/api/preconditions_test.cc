#include "controlplane/api/preconditions.h"

#include <gtest/gtest.h>

#include "controlplane/api/render.h"

namespace sluice::api {
namespace {

using namespace std::chrono_literals;

unsigned status_of(const std::string &if_match) {
  const auto failed = failed_precondition(if_match, "5f-7");
  return failed ? failed->status : 200;
}

TEST(IfMatch, holds_for_the_version_and_fails_for_every_other) {
  for (const char *good : {"", "*", "\"5f-7\"", "\"a\", \"5f-7\"", " \"5f-7\" ,\t\"b\" "})
    EXPECT_EQ(status_of(good), 200u);
  for (const char *old : {"\"5f-6\"", "W/\"5f-7\"", "\"\"", "\"a\", \"b\""})
    EXPECT_EQ(status_of(old), 412u) << old;
  for (const char *wrong : {"5f-7", "\"5f-7", "\"5f-7\" \"a\"", "\"5f-7\",", ",", "W/", "W/5"})
    EXPECT_EQ(status_of(wrong), 400u) << wrong;
  EXPECT_EQ(failed_precondition("\"a\"", "5f-7")->header("ETag"), "\"5f-7\"");
}

class Idempotency : public testing::Test {
 protected:
  Response ask(const std::string &key, const std::string &target = "/v1/reload",
               const std::string &who = "ci", const std::string &method = "POST") {
    const Request request{
        .method = method, .target = target, .caller = {who, "token", "", {}}, .idempotency_key = key};
    return memory_.once(request, now_, [this](const Request &) {
      Response response = json_response(status_, {{"call", ++calls_}});
      response.change = ChangeNote{.outcome = "applied"};
      return response;
    });
  }

  IdempotencyMemory memory_;
  IdempotencyMemory::Clock::time_point now_{1h};
  int calls_ = 0;
  unsigned status_ = 200;
};

TEST_F(Idempotency, the_same_request_is_carried_out_once) {
  const Response first = ask("k1");
  const Response again = ask("k1");
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(again.body, first.body);
  EXPECT_EQ(again.header("Idempotency-Replayed"), "true");
  EXPECT_FALSE(again.change);  // one line in the audit log
  EXPECT_EQ(first.header("Idempotency-Replayed"), "");
}

TEST_F(Idempotency, another_request_with_the_key_is_refused) {
  ask("k1");
  EXPECT_EQ(ask("k1", "/v1/other").status, 422u);
  EXPECT_EQ(calls_, 1);
}

TEST_F(Idempotency, keys_are_each_identitys_own_and_of_post_alone) {
  ask("k1");
  ask("k1", "/v1/reload", "other");
  EXPECT_EQ(calls_, 2);
  ask("k1", "/v1/reload", "ci", "DELETE");
  EXPECT_EQ(calls_, 3);
  ask("");
  EXPECT_EQ(calls_, 4);
}

TEST_F(Idempotency, what_failed_may_be_tried_again) {
  status_ = 502;
  ask("k1");
  status_ = 200;
  EXPECT_EQ(ask("k1").status, 200u);
  EXPECT_EQ(calls_, 2);
}

TEST_F(Idempotency, is_forgotten_after_a_while) {
  ask("k1");
  now_ += IdempotencyMemory::kKept;
  ask("k1");
  EXPECT_EQ(calls_, 2);
}

TEST_F(Idempotency, memory_is_bounded_and_nobody_pushes_out_anothers) {
  ask("mine", "/v1/reload", "other");
  for (int i = 0; i < 1000; i++) ask("k" + std::to_string(i));
  EXPECT_EQ(memory_.entries(), IdempotencyMemory::kMaxPerIdentity + 1);
  const int calls = calls_;
  ask("mine", "/v1/reload", "other");
  ask("k999");
  EXPECT_EQ(calls_, calls);
  ask("k0");
  EXPECT_EQ(calls_, calls + 1);
}

TEST_F(Idempotency, a_key_is_visible_ascii) {
  for (const std::string &key :
       {std::string("a b"), std::string("\x01"), std::string("\xff"), std::string(256, 'a')})
    EXPECT_EQ(ask(key).status, 400u);
  EXPECT_EQ(calls_, 0);
}

}  // namespace
}  // namespace sluice::api
