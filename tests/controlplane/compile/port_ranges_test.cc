#include "controlplane/compile/port_ranges.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {

inline bool operator==(const PortRange &a, const PortRange &b) {
  return a.first_port == b.first_port && a.last_port == b.last_port && a.service == b.service;
}

inline std::ostream &operator<<(std::ostream &out, const PortRange &range) {
  return out << range.first_port << "-" << range.last_port << "=" << range.service;
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<PortRange> flat(std::vector<ServiceSpan> spans) {
  auto ranges = flatten_port_spans(std::move(spans));
  EXPECT_TRUE(ranges.ok()) << ranges.error().message;
  return ranges.ok() ? std::move(ranges).value() : std::vector<PortRange>{};
}

PortRange range(uint16_t first, uint16_t last, uint32_t service) { return {first, last, service}; }

TEST(PortRanges, nothing_makes_nothing) { EXPECT_THAT(flat({}), IsEmpty()); }

TEST(PortRanges, exact_port_wins_over_a_range_and_a_range_over_all) {
  EXPECT_THAT(flat({{{0, 65535}, 1}, {{100, 200}, 2}, {{150, 150}, 3}}),
              ElementsAre(range(0, 99, 1), range(100, 149, 2), range(150, 150, 3), range(151, 200, 2),
                          range(201, 65535, 1)));
}

TEST(PortRanges, smaller_range_wins_over_a_larger_one_at_its_edges) {
  EXPECT_THAT(flat({{{100, 200}, 1}, {{100, 110}, 2}, {{190, 200}, 3}}),
              ElementsAre(range(100, 110, 2), range(111, 189, 1), range(190, 200, 3)));
}

TEST(PortRanges, first_and_last_port_are_kept) {
  EXPECT_THAT(flat({{{0, 65535}, 1}, {{65535, 65535}, 2}, {{1, 1}, 3}}),
              ElementsAre(range(0, 0, 1), range(1, 1, 3), range(2, 65534, 1), range(65535, 65535, 2)));
}

TEST(PortRanges, neighbours_of_one_service_are_one_range) {
  EXPECT_THAT(flat({{{80, 80}, 1}, {{81, 90}, 1}, {{91, 91}, 2}}),
              ElementsAre(range(80, 90, 1), range(91, 91, 2)));
  EXPECT_THAT(flat({{{100, 200}, 1}, {{150, 160}, 1}}), ElementsAre(range(100, 200, 1)));
}

TEST(PortRanges, larger_span_that_is_covered_whole_disappears) {
  EXPECT_THAT(flat({{{10, 11}, 1}, {{10, 10}, 2}, {{11, 11}, 3}}),
              ElementsAre(range(10, 10, 2), range(11, 11, 3)));
}

TEST(PortRanges, equal_and_partly_overlapping_spans_are_refused) {
  EXPECT_THAT(flatten_port_spans({{{80, 80}, 1}, {{80, 80}, 2}}).error().message,
              HasSubstr("80-80 and 80-80"));
  EXPECT_THAT(flatten_port_spans({{{100, 200}, 1}, {{150, 250}, 2}}).error().message,
              HasSubstr("150-250 and 100-200"));
}

// Against the definition: each port belongs to the smallest span that holds it.
TEST(PortRanges, random_nested_spans_give_each_port_to_the_smallest) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<ServiceSpan> spans;
    // Spans with both ends on a grid of 2^k within one of 2^(k+1) nest or are apart.
    for (uint32_t service = 0; service < 40; ++service) {
      const uint32_t size = 1u << (random() % 16);
      const auto first = static_cast<uint16_t>(random() % (65536 / size) * size);
      const model::PortSpan span{first, static_cast<uint16_t>(first + size - 1)};
      const auto same = [&](const ServiceSpan &other) { return other.span == span; };
      if (std::ranges::none_of(spans, same)) spans.push_back({span, service});
    }
    const auto ranges = flat(spans);
    for (size_t i = 1; i < ranges.size(); ++i) ASSERT_GT(ranges[i].first_port, ranges[i - 1].last_port);
    for (int probe = 0; probe < 200; ++probe) {
      const auto port = static_cast<uint16_t>(random());
      const ServiceSpan *smallest = nullptr;
      for (const ServiceSpan &span : spans) {
        const bool holds = span.span.first <= port && port <= span.span.last;
        if (holds && (smallest == nullptr || span.span.size() < smallest->span.size())) smallest = &span;
      }
      const auto found = std::ranges::find_if(
          ranges, [&](const PortRange &r) { return r.first_port <= port && port <= r.last_port; });
      ASSERT_EQ(found != ranges.end(), smallest != nullptr);
      if (smallest != nullptr) {
        ASSERT_EQ(found->service, smallest->service);
      }
    }
  }
}

}  // namespace
}  // namespace sluice
