// The vectors on the core itself: decide(), then what an engine does with the answer, in plain memory.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/vectors/vector_file.h"

namespace sluice {
namespace {

class HostVector : public testing::TestWithParam<Vector> {};

TEST_P(HostVector, gives_the_verdict_and_the_bytes) {
  VectorTables tables;
  int number = 0;
  for (const VectorStep &step : GetParam().steps) {
    SCOPED_TRACE("step " + std::to_string(++number));
    if (step.frame.empty()) {
      tables.change(step);
      continue;
    }
    const Decided decided = decide_frame(tables.worker(step.worker), step.frame, step.now_s);
    EXPECT_EQ(verdict_name(decided.verdict()), step.verdict);
    EXPECT_EQ(decided.decision.backend, step.backend);
    EXPECT_EQ(leaving_frame(step.frame, decided), step.out);
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, HostVector, testing::ValuesIn(load_vectors()), [](const auto &vector) {
  std::string name = vector.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

// The expected bytes themselves: whoever made them, a receiver must take them.
TEST(Vectors, expected_frames_have_right_checksums_and_lengths) {
  for (const Vector &vector : load_vectors())
    for (const VectorStep &step : vector.steps)
      EXPECT_EQ(step.out.empty() ? "" : wrong_checksums(step.out), "") << vector.name;
}

TEST(Vectors, cover_every_verdict_that_the_core_gives) {
  std::set<std::string> expected;
  for (const Vector &vector : load_vectors())
    for (const VectorStep &step : vector.steps) expected.insert(step.verdict);
  const std::set<std::string> engine = {
      "pass_no_snapshot", "drop_no_headroom",         "drop_transmit_queue_full", "drop_kernel_queue_full",
      "drop_internal",    "drop_steering_queue_full", "drop_kernel_limit"};
  for (uint32_t verdict = 0; verdict < kVerdictCount; verdict++) {
    const std::string name = verdict_name(verdict);
    EXPECT_NE(expected.count(name), engine.count(name)) << name;
  }
}

}  // namespace
}  // namespace sluice
