// What a dry run says of each step of the vectors, before it is made.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/server/explain_fixture.h"
#include "tests/vectors/vector_file.h"

namespace sluice {
namespace {

class ExplainedVector : public testing::TestWithParam<Vector> {};

TEST_P(ExplainedVector, is_foretold_with_verdict_and_backend) {
  VectorTables tables;
  int number = 0;
  for (const VectorStep &step : GetParam().steps) {
    SCOPED_TRACE("step " + std::to_string(++number));
    if (step.frame.empty()) {
      tables.change(step);
      continue;
    }
    const ForwardingTables forwarding = forwarding_tables(tables.snapshot(), tables.worker_tables(0));
    LiveTables live =
        live_tables(&forwarding, {&tables.worker_tables(0), &tables.worker_tables(1)}, 2, step.now_s);
    const Tables &own = tables.worker(step.worker);
    live.budgets = {{own.adoption_budgets[0], own.adoption_budgets[1]}, 1000, *own.icmp_reply_budget};
    const DryRun run = dry_run(live, {step.frame, static_cast<uint32_t>(step.frame.size()), step.worker});
    EXPECT_EQ(verdict_name(run.verdict), step.verdict);
    EXPECT_EQ(run.backend, step.backend);
    decide_frame(own, step.frame, step.now_s);
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, ExplainedVector, testing::ValuesIn(load_vectors()), [](const auto &vector) {
  std::string name = vector.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

}  // namespace
}  // namespace sluice
