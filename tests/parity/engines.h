// The three ways in which a packet is decided: by the core as it is, by the DPDK worker's burst, and by the
// XDP program in the kernel. Each with tables of its own, which it starts with empty.
#ifndef SLUICE_TESTS_PARITY_ENGINES_H
#define SLUICE_TESTS_PARITY_ENGINES_H

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/server/engine.h"
#include "tests/core/packet_builder.h"
#include "tests/parity/world.h"

namespace sluice {

/// What becomes of a frame, as the next one on the wire sees it.
enum class Way { kNowhere, kToKernel, kBack, kByOtherPort };

struct Outcome {
  uint32_t verdict = kVerdictUndecided;
  Way way = Way::kNowhere;
  uint16_t backend = 0;  // of a forwarded frame; 0 otherwise
  uint32_t service = 0;  // of a forwarded frame; 0 otherwise
  Bytes out;             // the frame as it goes on; empty if it goes nowhere

  bool operator==(const Outcome &) const = default;
};

struct Budgets {
  std::array<uint32_t, 2> adoption_lookups;
  uint32_t displacement_steps;
  uint32_t icmp_replies;

  bool operator==(const Budgets &) const = default;
};

/// Port 0 is the one that every frame comes by; a next hop may be behind port 1.
class ParityEngine {
 public:
  virtual ~ParityEngine() = default;
  virtual std::string name() const = 0;

  virtual void install(const ForwardingTables &tables) = 0;
  virtual void set_budgets(uint32_t worker, const Budgets &budgets) = 0;
  virtual void set_others_active(uint32_t worker, std::span<const uint32_t> active) = 0;

  /// One burst that comes to a worker.
  virtual std::vector<Outcome> run(uint32_t worker, uint32_t now_s, std::span<const Bytes> frames) = 0;

  /// The next kXdpSweepBuckets buckets of each family of the worker's table.
  virtual void sweep(uint32_t worker, uint32_t now_s) = 0;

  virtual Budgets budgets(uint32_t worker) const = 0;
  virtual std::span<ConnectionBucket> table(uint32_t table) = 0;  // IPv4 buckets, then IPv6
  virtual const WorkerCounters &counters(uint32_t worker) const = 0;
  virtual std::span<const BackendCounters> backends(uint32_t worker) const = 0;
  virtual std::span<const TrafficCounters> services(uint32_t worker) const = 0;
};

/// decide() for each frame, then what an engine does with the decision.
std::unique_ptr<ParityEngine> make_host_engine(const WorldShape &shape);

/// run_burst() over mbufs. Starts the EAL when called for the first time.
std::unique_ptr<ParityEngine> make_burst_engine(const WorldShape &shape);

/// The loaded program, with `other_port` as port 1. Frames come by the loopback interface.
std::unique_ptr<ParityEngine> make_xdp_engine(const WorldShape &shape, uint32_t other_port_ifindex);

}  // namespace sluice

#endif
