// The same vectors through the XDP program in the kernel: two workers are two CPUs. Needs root.
//
// What the program says is its verdict counters, its action and the frame; a backend, by the counters of a
// frame that was forwarded. Of a frame that was not, it names none.
#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/vectors/vector_file.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

constexpr uint32_t kLoopback = 1;  // its index in any network namespace
constexpr uint32_t kBuckets = 16;  // as VectorTables

/// Loaded once for the process: it takes a while.
LoadedProgram &loaded_program() {
  static LoadedProgram program({.worker_count = 2,
                                .table_count = 2,
                                .ipv4_buckets = kBuckets,
                                .ipv6_buckets = kBuckets,
                                .port_ifindexes = {kLoopback}});
  return program;
}

/// The program with the tables of a vector, as in the beginning.
class LoadedVectors {
 public:
  LoadedVectors() : program_(loaded_program()) {
    for (uint32_t worker = 0; worker < 2; worker++) {
      std::ranges::fill(program_.table(worker), ConnectionBucket{});
      std::ranges::fill(program_.counters().backends(worker), BackendCounters{});
      program_.worker(worker).displacement_budget = 1000;
      program_.worker(worker).icmp_reply_budget = 1000;
    }
    set_adoption_lookups(1000);
    install();
  }

  XdpOutcome run(const VectorStep &step) {
    program_.set_time(step.now_s);
    return program_.run(step.worker, step.frame);
  }

  void change(const VectorStep &step) {
    tables_.change(step);
    if (step.changed_backend == 0) {
      set_adoption_lookups(step.changed_adoption_lookups);
    } else {
      install();
    }
  }

 private:
  void set_adoption_lookups(uint32_t lookups) {
    for (uint32_t worker = 0; worker < 2; worker++)
      for (uint32_t &budget : program_.worker(worker).adoption_budgets) budget = lookups;
  }

  void install() {
    const Tables &tables = tables_.worker(0);
    program_.install(tables_.snapshot(), {tables.egress, tables.backend_count});
  }

  VectorTables tables_;
  LoadedProgram &program_;
};

void expect_outcome(const VectorStep &step, const XdpOutcome &outcome) {
  EXPECT_EQ(verdict_name(outcome.verdict), step.verdict);
  switch (verdict_class(static_cast<Verdict>(outcome.verdict))) {
    case kVerdictClassForward:
      EXPECT_EQ(outcome.backend, step.backend);
      EXPECT_EQ(outcome.action, XDP_TX);
      EXPECT_EQ(outcome.out, step.out);
      break;
    case kVerdictClassReply:
      EXPECT_EQ(outcome.action, XDP_TX);
      EXPECT_EQ(outcome.out, step.out);
      break;
    case kVerdictClassPass:
      EXPECT_EQ(outcome.action, XDP_PASS);
      EXPECT_EQ(outcome.out, step.frame);
      break;
    case kVerdictClassDrop:
      EXPECT_EQ(outcome.action, XDP_DROP);
      break;
  }
}

class XdpVector : public testing::TestWithParam<Vector> {};

TEST_P(XdpVector, gives_the_verdict_and_the_bytes) {
  LoadedVectors vectors;
  int number = 0;
  for (const VectorStep &step : GetParam().steps) {
    SCOPED_TRACE("step " + std::to_string(++number));
    if (step.frame.empty()) {
      vectors.change(step);
    } else {
      expect_outcome(step, vectors.run(step));
    }
  }
}

/// All but those with a frame that the kernel runs no program on: the host and the DPDK worker have them.
std::vector<Vector> runnable_vectors() {
  std::vector<Vector> vectors = load_vectors();
  std::erase_if(vectors, [](const Vector &vector) {
    return std::any_of(vector.steps.begin(), vector.steps.end(), [](const VectorStep &step) {
      return !step.frame.empty() && step.frame.size() < LoadedProgram::kShortestFrame;
    });
  });
  return vectors;
}

INSTANTIATE_TEST_SUITE_P(Vectors, XdpVector, testing::ValuesIn(runnable_vectors()), [](const auto &vector) {
  std::string name = vector.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(XdpVectors, leave_out_nothing_but_runts) {
  EXPECT_EQ(runnable_vectors().size() + 1, load_vectors().size());
}

}  // namespace
}  // namespace sluice
