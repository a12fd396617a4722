// One world's life in three engines at once: bursts of packets, pauses, changes; and what differs.
#ifndef SLUICE_TESTS_PARITY_ROUND_H
#define SLUICE_TESTS_PARITY_ROUND_H

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/abi/counters.h"
#include "dataplane/server/dry_run.h"
#include "tests/parity/engines.h"
#include "tests/parity/random.h"
#include "tests/parity/world.h"

namespace sluice {

/// What happened in all rounds, to see that the worlds were rich enough.
struct Totals {
  uint64_t packets = 0;
  std::array<uint64_t, kVerdictCount> verdicts = {};
  std::array<uint64_t, 4> ways = {};      // by Way
  std::array<uint64_t, 4> pairings = {};  // forwarded, by family of the packet and of its outer header
  uint64_t explained = 0;                 // packets that a dry run was asked about before they were decided
  std::array<uint64_t, kVerdictCount> explained_verdicts = {};
  uint64_t generations = 0;
  uint64_t evicted = 0;
  uint64_t expired = 0;
  uint64_t adoption_lookups = 0;
  uint64_t displacement_steps = 0;
  uint64_t tcp_opens = 0;
  uint64_t tcp_progresses = 0;
  uint64_t tcp_repeated_opens = 0;
  uint64_t tcp_resets = 0;
};

class Round {
 public:
  Round(uint64_t seed, uint32_t other_port_ifindex, Totals *totals);

  /// Runs `packets` packets or a few more. Answers the first difference between the engines; empty if there
  /// is none.
  std::string run(uint64_t packets);

 private:
  std::string step();
  std::string burst();
  void install_next();
  void sweep(uint32_t worker);
  void set_budgets(uint32_t worker);
  void set_others_active(uint32_t worker);
  void exchange_table_with_former_worker();
  void pass_time();

  std::string compare_outcomes(const std::vector<Bytes> &frames,
                               const std::array<std::vector<Outcome>, 3> &outcomes) const;
  /// What a dry run says of the frame over the tables of engine `index`, before they decide about it.
  DryRun explain(size_t index, uint32_t worker, const Bytes &frame);
  std::string compare_explained(size_t index, const DryRun &explained, const Bytes &frame,
                                const Outcome &outcome) const;
  std::string compare_state() const;
  std::string compare_workers(ParityEngine *engine) const;
  std::string compare_counts() const;
  void note(const std::vector<Outcome> &outcomes);
  void note_events();

  Random random_;
  World world_;
  ForwardingTables generation_;
  std::vector<std::vector<uint32_t>> others_active_;      // by worker
  std::array<std::unique_ptr<ParityEngine>, 3> engines_;  // the first is what the others are compared with
  Totals *totals_;
  uint32_t now_s_;
  size_t longest_frame_;
};

}  // namespace sluice

#endif
