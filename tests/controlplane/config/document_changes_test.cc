#include "controlplane/config/document_changes.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

using nlohmann::json;

constexpr const char *kBefore = R"(
version: 1
pools:
  - {name: web, slots: 251, backends: [{name: b1, address: 10.1.0.1, weight: 100}, {name: b2, address: 10.1.0.2}]}
)";

TEST(DocumentChanges, members_of_lists_are_known_by_their_names) {
  const json changes = document_changes(kBefore, R"(
# Another order, another layout.
pools:
  - name: web
    backends:
      - {name: b2, address: "10.1.0.2"}
      - {name: b1, address: 10.1.0.1, weight: 50}
      - {name: b3, address: 10.1.0.3}
version: 1
)");
  const json expected = json::array({
      {{"path", "pools/web/backends/b1/weight"}, {"old", "100"}, {"new", "50"}},
      {{"path", "pools/web/backends/b3"}, {"new", {{"address", "10.1.0.3"}}}},
      {{"path", "pools/web/slots"}, {"old", "251"}},
  });
  EXPECT_EQ(changes, expected) << changes.dump(2);
}

TEST(DocumentChanges, comments_order_and_layout_are_none) {
  EXPECT_EQ(document_changes("a: 1\nb: [x, y]\n", "b:   [x, y]  # as before\na: '1'\n"), json::array());
  EXPECT_EQ(document_changes("b: [x, y]", "b: [y, x]").size(), 1u)
      << "of members without names the order counts";
}

TEST(DocumentChanges, secrets_are_not_shown) {
  const std::string before =
      "flow_hash_key: aaaa\npools: [{name: web, health: {headers: ['Authorization: old']}}]\n";
  const std::string after =
      "flow_hash_key: bbbb\npools: [{name: web, health: {headers: ['Authorization: new']}}, "
      "{name: new, health: {headers: ['Authorization: third']}}]\n";
  const std::string told = document_changes(before, after).dump();
  for (const char *secret : {"aaaa", "bbbb", "Authorization"})
    EXPECT_EQ(told.find(secret), std::string::npos) << told;
  EXPECT_NE(told.find("flow_hash_key"), std::string::npos);
  EXPECT_NE(told.find("pools/web/health/headers"), std::string::npos);
}

TEST(DocumentChanges, only_so_many_are_listed) {
  std::string after = "pools:\n";
  for (size_t i = 0; i < kMaxListedChanges + 7; i++) after += "  - {name: p" + std::to_string(i) + "}\n";
  const json changes = document_changes("pools: [{name: other}]", after);
  ASSERT_EQ(changes.size(), kMaxListedChanges + 1);
  EXPECT_EQ(changes.back(), json({{"path", ""}, {"more", 8}}));
}

TEST(DocumentChanges, text_that_is_no_yaml_counts_as_empty) {
  EXPECT_EQ(document_changes("{", "a: 1").size(), 1u);
  EXPECT_EQ(document_changes("{", "{"), json::array());
}

}  // namespace
}  // namespace sluice
