#include "controlplane/api/target.h"

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

namespace sluice::api {
namespace {

Target parsed(const std::string &text) {
  const Result<Target> target = parse_target(text);
  EXPECT_TRUE(target.ok()) << text;
  return target.ok() ? target.value() : Target{};
}

std::string refused(const std::string &text) {
  const Result<Target> target = parse_target(text);
  EXPECT_FALSE(target.ok()) << text;
  return target.ok() ? "" : target.error().message;
}

TEST(Target, splits_path_and_query) {
  const Target target = parsed("/v1/backends/web/b1?a=1&b=two&c");
  EXPECT_EQ(target.segments, (std::vector<std::string>{"v1", "backends", "web", "b1"}));
  EXPECT_EQ(target.query, (std::map<std::string, std::string>{{"a", "1"}, {"b", "two"}, {"c", ""}}));
}

TEST(Target, decodes_segments_after_splitting_them) {
  EXPECT_EQ(parsed("/v1/a%2Fb/%C3%A4").segments, (std::vector<std::string>{"v1", "a/b", "\xc3\xa4"}));
  EXPECT_EQ(parsed("/x?client=2001%3adb8%3A%3A1").query.at("client"), "2001:db8::1");
}

TEST(Target, a_slash_at_the_end_changes_nothing) {
  EXPECT_EQ(parsed("/v1/status/").segments, parsed("/v1/status").segments);
}

TEST(Target, refuses_what_is_no_path) {
  for (const char *text : {"", "v1/status", "*", "http://sluiced/v1/status"}) refused(text);
}

TEST(Target, refuses_bad_escapes_and_names_them) {
  EXPECT_NE(refused("/v1/%zz").find("%zz"), std::string::npos);
  refused("/v1/%4");
  refused("/v1/%");
  EXPECT_NE(refused("/v1?x=%g0").find("\"x\""), std::string::npos);
}

TEST(Target, refuses_empty_segments_and_repeated_parameters) {
  refused("/v1//status");
  EXPECT_NE(refused("/v1?limit=1&limit=2").find("twice"), std::string::npos);
}

TEST(PercentEncode, is_undone_by_parsing) {
  std::string every_byte;
  for (int byte = 1; byte < 256; byte++) every_byte += static_cast<char>(byte);
  EXPECT_EQ(parsed(fmt::format("/{}", percent_encode(every_byte))).segments.at(0), every_byte);
  EXPECT_EQ(percent_encode("web-1.a_b~"), "web-1.a_b~");
  EXPECT_EQ(percent_encode("a/b c"), "a%2Fb%20c");
}

}  // namespace
}  // namespace sluice::api
