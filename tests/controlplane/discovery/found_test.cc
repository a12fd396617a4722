#include "controlplane/discovery/found.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

FoundBackend backend(const std::string &name, const std::string &address) {
  FoundBackend made;
  made.name = name;
  made.address = *parse_address(address);
  return made;
}

std::vector<std::string> names(const std::vector<FoundBackend> &backends) {
  std::vector<std::string> names;
  for (const FoundBackend &each : backends) names.push_back(each.name);
  return names;
}

TEST(TidiedAnswer, is_the_same_in_whatever_order_the_source_says_it) {
  const FoundBackend a = backend("a", "10.0.0.1");
  const FoundBackend b = backend("b", "2001:db8::1");
  EXPECT_EQ(tidied({{b, a}, {}}).backends, tidied({{a, b}, {}}).backends);
  EXPECT_EQ(names(tidied({{b, a}, {}}).backends), (std::vector<std::string>{"a", "b"}));
}

TEST(TidiedAnswer, has_each_name_and_each_address_once_and_names_what_it_skips) {
  Answer answer{{backend("b", "10.0.0.1"), backend("a", "10.0.0.1"), backend("c", "10.0.0.3"),
                 backend("c", "10.0.0.2")},
                {}};
  answer.skipped.add("line 7: address is missing");
  const Answer tidy = tidied(answer);
  EXPECT_EQ(names(tidy.backends), (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(tidy.backends[1].address, *parse_address("10.0.0.2"));
  EXPECT_EQ(tidy.skipped.first(),
            (std::vector<std::string>{"line 7: address is missing", "b: the address 10.0.0.1 is there twice",
                                      "c (10.0.0.3): the name is there twice"}));
}

TEST(SkippedEntries, are_counted_and_the_first_of_them_named) {
  SkippedEntries many;
  for (int i = 0; i < 100'000; ++i) many.add("entry " + std::to_string(i));
  SkippedEntries all;
  all.add("another");
  all.add(many);
  EXPECT_EQ(all.count(), 100'001u);
  ASSERT_EQ(all.first().size(), SkippedEntries::kMostKept);
  EXPECT_EQ(all.first()[0], "another");
  EXPECT_EQ(all.first()[1], "entry 0");
}

TEST(AddressName, is_the_address_in_characters_of_names) {
  EXPECT_EQ(address_name(*parse_address("10.1.0.11")), "10.1.0.11");
  EXPECT_EQ(address_name(*parse_address("2001:db8::11")), "2001-db8--11");
  EXPECT_EQ(address_name(*parse_address("::1:2:3")), "0--1-2-3");
}

TEST(ScaledWeights, keep_their_ratios_below_the_largest_that_is_allowed) {
  std::vector<FoundBackend> backends = {backend("a", "10.0.0.1"), backend("b", "10.0.0.2"),
                                        backend("c", "10.0.0.3")};
  scale_weights(&backends, {10, 30, 0}, 100);
  EXPECT_EQ(backends[0].weight, 10);
  EXPECT_EQ(backends[1].weight, 30);
  EXPECT_EQ(backends[2].weight, 1);
  scale_weights(&backends, {60000, 30000, 0}, 100);
  EXPECT_EQ(backends[0].weight, 1000);
  EXPECT_EQ(backends[1].weight, 500);
  EXPECT_EQ(backends[2].weight, 1);
}

TEST(ScaledWeights, are_the_pools_where_all_are_equal) {
  std::vector<FoundBackend> backends = {backend("a", "10.0.0.1"), backend("b", "10.0.0.2")};
  scale_weights(&backends, {0, 0}, 100);
  EXPECT_EQ(backends[0].weight, 100);
  scale_weights(&backends, {1, 1}, 250);
  EXPECT_EQ(backends[1].weight, 250);
}

}  // namespace
}  // namespace sluice
