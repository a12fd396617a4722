// The same vectors through the DPDK worker's burst: real mbufs, prefetching stages, encapsulation in
// place. Without a port; tests/dpdk has whole workers.
#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include "dataplane/dpdk/pipeline.h"
#include "tests/vectors/vector_file.h"

namespace sluice {
namespace {

/// The EAL is started once for the process, with a pool of mbufs.
rte_mempool *mbuf_pool() {
  static rte_mempool *pool = [] {  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
    const std::string prefix = "sluice-vectors-" + std::to_string(getpid());
    const char *arguments[] = {"vectors",        "--no-huge",   "--no-pci", "--no-shconf", "--file-prefix",
                               prefix.c_str(),   "-m",          "64",       "--lcores",    "0",
                               "--no-telemetry", "--log-level", "error"};
    if (rte_eal_init(static_cast<int>(std::size(arguments)), const_cast<char **>(arguments)) < 0) {
      std::fprintf(stderr, "the EAL did not start: %s\n", rte_strerror(rte_errno));
      std::abort();
    }
    // Nothing else will attach to this process: leave nothing behind.
    std::filesystem::remove_all(rte_eal_get_runtime_dir());
    rte_mempool *made =
        rte_pktmbuf_pool_create("vectors", 512, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!made) std::abort();
    return made;
  }();
  return pool;
}

/// A call that the compiler does not see through, as the worker's count is not known to it either.
[[gnu::noinline]] void decide_burst(const Tables &tables, rte_mbuf *const *frames, uint32_t count,
                                    uint32_t now_s, FrameResult *results) {
  run_burst(tables, frames, count, now_s, results);
}

rte_mbuf *mbuf_of(const Bytes &bytes) {
  rte_mbuf *mbuf = rte_pktmbuf_alloc(mbuf_pool());
  if (!mbuf) std::abort();
  char *data = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes.size()));
  if (!data) std::abort();
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return mbuf;
}

Bytes bytes_of(const rte_mbuf *mbuf) {
  Bytes bytes;
  for (const rte_mbuf *segment = mbuf; segment; segment = segment->next) {
    const auto *data = rte_pktmbuf_mtod(segment, const uint8_t *);
    bytes.insert(bytes.end(), data, data + segment->data_len);
  }
  return bytes;
}

void expect_result(const VectorStep &step, const FrameResult &result, const rte_mbuf *mbuf) {
  EXPECT_EQ(verdict_name(result.verdict), step.verdict);
  EXPECT_EQ(result.backend, step.backend);
  EXPECT_EQ(result.bytes, step.frame.size());
  if (step.out.empty()) return;
  EXPECT_EQ(bytes_of(mbuf), step.out);
  EXPECT_EQ(mbuf->pkt_len, step.out.size());
  const bool reply = verdict_class(static_cast<Verdict>(result.verdict)) == kVerdictClassReply;
  EXPECT_EQ(result.port, reply ? kArrivalPort : 0);
}

/// Steps that follow each other on one worker in the same second are one burst.
std::vector<std::vector<VectorStep>> bursts_of(const Vector &vector) {
  std::vector<std::vector<VectorStep>> bursts;
  for (const VectorStep &step : vector.steps) {
    const bool joins = !bursts.empty() && !step.frame.empty() && !bursts.back().back().frame.empty() &&
                       bursts.back().back().now_s == step.now_s &&
                       bursts.back().back().worker == step.worker && bursts.back().size() < kBurstSize;
    if (!joins) bursts.emplace_back();
    bursts.back().push_back(step);
  }
  return bursts;
}

class WorkerVector : public testing::TestWithParam<Vector> {};

TEST_P(WorkerVector, gives_the_verdict_and_the_bytes) {
  VectorTables tables;
  for (const std::vector<VectorStep> &burst : bursts_of(GetParam())) {
    if (burst[0].frame.empty()) {
      tables.change(burst[0]);
      continue;
    }
    rte_mbuf *mbufs[kBurstSize];
    FrameResult results[kBurstSize];
    for (size_t i = 0; i < burst.size(); i++) mbufs[i] = mbuf_of(burst[i].frame);
    decide_burst(tables.worker(burst[0].worker), mbufs, static_cast<uint32_t>(burst.size()), burst[0].now_s,
                 results);
    for (size_t i = 0; i < burst.size(); i++) expect_result(burst[i], results[i], mbufs[i]);
    for (size_t i = 0; i < burst.size(); i++) rte_pktmbuf_free(mbufs[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, WorkerVector, testing::ValuesIn(load_vectors()), [](const auto &vector) {
  std::string name = vector.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

/// First steps, each of a vector of its own, all on the tables as they are in the beginning.
std::vector<VectorStep> independent_steps() {
  std::vector<VectorStep> steps;
  for (const Vector &vector : load_vectors())
    if (vector.steps.size() == 1) steps.push_back(vector.steps[0]);
  return steps;
}

// Frames of a burst do not touch each other: whole bursts of different ones, in both directions.
TEST(WorkerBurst, mixed_frames_are_each_decided_as_alone) {
  std::vector<VectorStep> steps = independent_steps();
  ASSERT_GT(steps.size(), 2 * kBurstSize);
  for (int direction = 0; direction < 2; direction++) {
    for (size_t first = 0; first + kBurstSize <= steps.size(); first += kBurstSize) {
      VectorTables together;
      rte_mbuf *mbufs[kBurstSize];
      FrameResult results[kBurstSize];
      for (size_t i = 0; i < kBurstSize; i++) mbufs[i] = mbuf_of(steps[first + i].frame);
      decide_burst(together.worker(0), mbufs, kBurstSize, 1000, results);
      for (size_t i = 0; i < kBurstSize; i++) {
        const VectorStep &step = steps[first + i];
        // The second frame of a flow finds the first one's entry; its bytes are the same.
        if (verdict_name(results[i].verdict) != "forward_established") {
          EXPECT_EQ(verdict_name(results[i].verdict), step.verdict);
        }
        if (!step.out.empty()) {
          EXPECT_EQ(bytes_of(mbufs[i]), step.out);
        }
        rte_pktmbuf_free(mbufs[i]);
      }
    }
    std::reverse(steps.begin(), steps.end());
  }
}

TEST(WorkerBurst, frame_without_headroom_is_counted_so) {
  VectorTables tables;
  for (const VectorStep &step : independent_steps()) {
    if (step.out.empty()) continue;
    rte_mbuf *mbuf = mbuf_of(step.frame);
    std::memmove(mbuf->buf_addr, rte_pktmbuf_mtod(mbuf, void *), mbuf->data_len);
    mbuf->data_off = 0;
    FrameResult result;
    decide_burst(tables.worker(0), &mbuf, 1, step.now_s, &result);
    EXPECT_EQ(verdict_name(result.verdict), "drop_no_headroom");
    rte_pktmbuf_free(mbuf);
  }
}

TEST(WorkerBurst, frame_in_two_segments_leaves_whole) {
  for (const VectorStep &step : independent_steps()) {
    if (step.out.empty() || step.frame.size() < 600 || step.verdict == "reply_too_big") continue;
    VectorTables tables;
    rte_mbuf *head = mbuf_of(Bytes(step.frame.begin(), step.frame.begin() + 300));
    rte_mbuf *tail = mbuf_of(Bytes(step.frame.begin() + 300, step.frame.end()));
    ASSERT_EQ(rte_pktmbuf_chain(head, tail), 0);
    FrameResult result;
    decide_burst(tables.worker(0), &head, 1, step.now_s, &result);
    EXPECT_EQ(verdict_name(result.verdict), step.verdict);
    EXPECT_EQ(bytes_of(head), step.out);
    rte_pktmbuf_free(head);
  }
}

}  // namespace
}  // namespace sluice
