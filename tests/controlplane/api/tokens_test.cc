#include "controlplane/api/tokens.h"

#include <set>

#include <gtest/gtest.h>

namespace sluice::api {
namespace {

TEST(Tokens, are_random_and_pass_as_bearer_tokens) {
  std::set<std::string> made;
  for (int i = 0; i < 100; i++) made.insert(make_token().value());
  EXPECT_EQ(made.size(), 100u);
  for (const std::string &token : made) {
    EXPECT_EQ(token.size(), kTokenPrefix.size() + 43);  // 256 bits
    EXPECT_EQ(parse_bearer("Bearer " + token), token);
  }
}

TEST(Tokens, hash_is_sha256) {
  // FIPS 180-4's example.
  EXPECT_EQ(hash_text(hash_token("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Tokens, bearer_is_the_only_scheme_and_in_any_case) {
  EXPECT_EQ(parse_bearer("bEARER   abc-._~+/="), "abc-._~+/=");
  for (const char *other : {"", "Bearer", "Bearer ", "Bearer\tabc", "Bearerabc", "Basic YTpi", "Bearer a b",
                            "Bearer a\n", "Bearer a,b", "Bearer \xff"}) {
    EXPECT_FALSE(parse_bearer(other)) << other;
  }
  EXPECT_FALSE(parse_bearer("Bearer " + std::string(513, 'a')));
}

TEST(Tokens, are_taken_out_of_what_is_logged) {
  const std::string token = make_token().value();
  EXPECT_EQ(without_tokens("/v1/" + token + "?a=" + token + "&b=1"), "/v1/[token]?a=[token]&b=1");
  EXPECT_EQ(without_tokens("/v1/status"), "/v1/status");
}

}  // namespace
}  // namespace sluice::api
