#include "controlplane/config/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using testing::HasSubstr;

const std::string kHash(64, 'a');

std::string error(const std::string &text) {
  const LoadedTokens loaded = load_tokens(text, "f");
  EXPECT_TRUE(loaded.tokens.empty());
  return loaded.errors.size() == 1 ? loaded.errors[0].to_string()
                                   : "not one error but " + std::to_string(loaded.errors.size());
}

std::string entry(const std::string &more) {
  return "- {name: ci, role: viewer, sha256: " + kHash + more + "}\n";
}

TEST(TokenFile, reads_tokens) {
  const LoadedTokens loaded = load_tokens(
      "# made by sluicectl\n" + entry(", services: [a, b], expires: \"2027-02-20T00:00:00Z\""), "f");
  ASSERT_TRUE(loaded.ok()) << loaded.errors[0].to_string();
  ASSERT_EQ(loaded.tokens.size(), 1u);
  EXPECT_EQ(loaded.tokens[0].name, "ci");
  EXPECT_EQ(loaded.tokens[0].grant, (model::Grant{model::Role::kViewer, {{"a", "b"}}}));
  EXPECT_EQ(loaded.tokens[0].expires_unix_s, 1803081600);
  EXPECT_EQ(loaded.tokens[0].sha256[31], 0xaa);
  for (const char *none : {"", "# nothing yet\n", "[]"}) EXPECT_TRUE(load_tokens(none, "f").ok()) << none;
}

TEST(TokenFile, says_what_is_wrong_and_where) {
  EXPECT_THAT(error("- {name: ci, role: viewer}\n"), HasSubstr("f:1:3: [0]: key \"sha256\" is missing"));
  EXPECT_THAT(error("- {name: ci, role: viewer, sha256: abc}\n"), HasSubstr("[0].sha256: is no SHA-256"));
  EXPECT_THAT(error("- {name: ci, role: viewer, sha256: " + std::string(64, 'g') + "}\n"),
              HasSubstr("no SHA-256"));
  EXPECT_THAT(error(entry("") + "- {name: b, role: viewer, sha256: " + kHash + "}"),
              HasSubstr("f:2:3: [1]: has the sha256"));
  EXPECT_THAT(error(entry("") + "- {name: ci, role: viewer, sha256: " + std::string(64, 'b') + "}"),
              HasSubstr("[1]: is named \"ci\", as another one"));
  EXPECT_THAT(error(entry(", token: secret")), HasSubstr("token"));
  EXPECT_THAT(error("name: ci"), HasSubstr("list"));
  EXPECT_THAT(error(std::string(kMaxTokenFileBytes + 1, ' ')), HasSubstr("has more than"));
  EXPECT_FALSE(load_tokens("- {name: [", "f").ok());
}

TEST(TokenFile, an_end_is_a_moment_in_utc) {
  EXPECT_EQ(parse_moment("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_moment("2028-02-29T23:59:59Z"), 1835481599);
  EXPECT_EQ(format_moment(1835481599), "2028-02-29T23:59:59Z");
  for (const char *wrong : {"2027-02-29T00:00:00Z", "2027-02-20", "2027-02-20T00:00:00",
                            "2027-02-20T24:00:00Z", "2027-02-20T00:60:00Z", "2027-13-20T00:00:00Z",
                            "2027-02-20t00:00:00Z", "1969-12-31T00:00:00Z", "+027-02-20T00:00:00Z"}) {
    EXPECT_FALSE(parse_moment(wrong)) << wrong;
    EXPECT_THAT(error(entry(", expires: \"" + std::string(wrong) + "\"")), HasSubstr("[0].expires: \""));
  }
}

}  // namespace
}  // namespace sluice
