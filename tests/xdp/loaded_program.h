// The XDP program in the kernel, for tests: loaded with a clock that stands still, filled with a snapshot,
// and run on one frame at a time (BPF_PROG_TEST_RUN). It has no interface. Needs root, and as many CPUs as
// workers.
//
//   LoadedProgram program({.ipv4_buckets = 16, .ipv6_buckets = 16});
//   program.install(builder, egress);
//   program.set_time(1000);
//   XdpOutcome outcome = program.run(0, frame);
//
// What the kernel refuses is thrown as std::runtime_error: a test fails with its text.
#ifndef SLUICE_TESTS_XDP_LOADED_PROGRAM_H
#define SLUICE_TESTS_XDP_LOADED_PROGRAM_H

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include <linux/bpf.h>
#include <sched.h>

#include "dataplane/server/shared_memory.h"
#include "dataplane/server/snapshot_store.h"
#include "dataplane/xdp/forwarding_program.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {

/// Binds the calling thread to a CPU, and lets it go where it could go before. The program takes the CPU that
/// it runs on for its worker.
class BoundToCpu {
 public:
  BoundToCpu();
  ~BoundToCpu();
  BoundToCpu(const BoundToCpu &) = delete;
  BoundToCpu &operator=(const BoundToCpu &) = delete;

  /// Throws if there is no such CPU for this process.
  void bind(uint32_t cpu);

 private:
  cpu_set_t before_;
  std::optional<uint32_t> cpu_;
  std::thread::id thread_;  // that is bound
};

/// What became of a frame.
struct XdpOutcome {
  uint32_t action = XDP_ABORTED;         // enum xdp_action
  uint32_t verdict = kVerdictUndecided;  // whose counter rose
  uint16_t backend = 0;                  // whose counter rose: of a forwarded frame only
  uint32_t service = 0;                  // whose counter rose; meaningless without a backend
  std::vector<uint8_t> out;              // the frame as the program left it
};

/// A checked snapshot with its egress records. Throws what is wrong with it.
ForwardingTables forwarding_tables(const SnapshotBuilder &builder, std::span<const Egress> egress);

class LoadedProgram {
 public:
  /// The kernel runs no program on less than an Ethernet header.
  static constexpr size_t kShortestFrame = 14;  // bytes
  /// In one piece; FrameBuffers::kSeveral takes longer ones.
  static constexpr size_t kLongestFrame = 3520;  // bytes

  /// With a clock that stands still, whatever the options say, unless `clock` says otherwise; and with as
  /// much memory for connections as the tables need. Frames come by the loopback interface of the network
  /// namespace.
  explicit LoadedProgram(ForwardingProgramOptions options, XdpClock clock = kXdpClockFixed);

  ForwardingProgram &program() { return *program_; }

  void install(const ForwardingTables &tables);
  void install(const SnapshotBuilder &builder, std::span<const Egress> egress) {
    install(forwarding_tables(builder, egress));
  }

  /// Of every worker.
  void set_time(uint32_t now_s);
  XdpWorker &worker(uint32_t worker) const { return program_->worker(worker); }

  /// Runs the program on a frame of kShortestFrame bytes at least, on the worker's CPU. Throws if not exactly
  /// one verdict was counted.
  XdpOutcome run(uint32_t worker, std::span<const uint8_t> frame);

  /// ForwardingProgram::sweep on the worker's CPU.
  void sweep(uint32_t worker, uint32_t runs);

  /// A connection table's buckets: ipv4_buckets, then ipv6_buckets.
  std::span<ConnectionBucket> table(uint32_t table) const;

  const CounterRegion &counters() const { return *counters_; }

 private:
  /// Which of a worker's backends (or services) the last frame was counted for.
  struct Counted {
    std::vector<uint64_t> backends;
    std::vector<uint64_t> services;
  };
  void note_counts(uint32_t worker);
  void read_outcome(uint32_t worker, const WorkerCounters &before, XdpOutcome *outcome);

  BoundToCpu cpu_;
  std::unique_ptr<ForwardingProgram> program_;
  SharedMemory connections_;
  std::optional<CounterRegion> counters_;
  size_t known_backends_ = 0;
  size_t known_services_ = 0;
  std::vector<Counted> counted_;  // by worker
  std::vector<uint8_t> buffer_;
};

}  // namespace sluice

#endif
