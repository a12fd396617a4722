// The program in the kernel.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/parity/engines.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

constexpr uint32_t kLoopback = 1;  // its index in any network namespace

Way way_of(uint32_t action) {
  switch (action) {
    case XDP_PASS:
      return Way::kToKernel;
    case XDP_TX:
      return Way::kBack;
    case XDP_REDIRECT:
      return Way::kByOtherPort;
    case XDP_DROP:
      return Way::kNowhere;
    default:
      throw std::runtime_error("the program answered with action " + std::to_string(action));
  }
}

class XdpEngine : public ParityEngine {
 public:
  XdpEngine(const WorldShape &shape, uint32_t other_port_ifindex)
      : program_({.worker_count = shape.workers,
                  .table_count = shape.tables,
                  .ipv4_buckets = shape.ipv4_buckets,
                  .ipv6_buckets = shape.ipv6_buckets,
                  .buffers = shape.buffers,
                  .port_ifindexes = {kLoopback, other_port_ifindex}}) {}

  std::string name() const override { return "XDP"; }
  void install(const ForwardingTables &tables) override { program_.install(tables); }

  void set_budgets(uint32_t worker, const Budgets &budgets) override {
    XdpWorker &own = program_.worker(worker);
    std::copy(budgets.adoption_lookups.begin(), budgets.adoption_lookups.end(), own.adoption_budgets);
    own.displacement_budget = budgets.displacement_steps;
    own.icmp_reply_budget = budgets.icmp_replies;
  }
  Budgets budgets(uint32_t worker) const override {
    const XdpWorker &own = program_.worker(worker);
    return {
        {own.adoption_budgets[0], own.adoption_budgets[1]}, own.displacement_budget, own.icmp_reply_budget};
  }
  void set_others_active(uint32_t worker, std::span<const uint32_t> active) override {
    std::copy(active.begin(), active.end(), program_.program().others_active(worker).begin());
  }

  std::vector<Outcome> run(uint32_t worker, uint32_t now_s, std::span<const Bytes> frames) override {
    program_.worker(worker).now_s = now_s;
    std::vector<Outcome> outcomes;
    for (const Bytes &frame : frames)
      outcomes.push_back(frame.size() < LoadedProgram::kShortestFrame ? count_runt(worker, frame)
                                                                      : run_one(worker, frame));
    return outcomes;
  }

  void sweep(uint32_t worker, uint32_t now_s) override {
    program_.worker(worker).now_s = now_s;
    program_.sweep(worker, 1);
  }

  std::span<ConnectionBucket> table(uint32_t table) override { return program_.table(table); }
  const WorkerCounters &counters(uint32_t worker) const override {
    return program_.counters().worker(worker);
  }
  std::span<const BackendCounters> backends(uint32_t worker) const override {
    return program_.counters().backends(worker);
  }
  std::span<const TrafficCounters> services(uint32_t worker) const override {
    return program_.counters().services(worker);
  }

 private:
  Outcome run_one(uint32_t worker, const Bytes &frame) {
    XdpOutcome ran = program_.run(worker, frame);
    Outcome outcome = {ran.verdict, way_of(ran.action), ran.backend, ran.service, {}};
    if (outcome.way != Way::kNowhere) outcome.out = std::move(ran.out);
    return outcome;
  }

  /// The kernel runs no program on such a frame. Counted as if it had, so that the sums can be compared.
  Outcome count_runt(uint32_t worker, const Bytes &frame) {
    WorkerCounters &counted = program_.counters().worker(worker);
    counted.received_packets++;
    counted.received_bytes += frame.size();
    counted.verdict_packets[kVerdictDropEthernetTruncated]++;
    return {kVerdictDropEthernetTruncated, Way::kNowhere, 0, 0, {}};
  }

  LoadedProgram program_;
};

}  // namespace

std::unique_ptr<ParityEngine> make_xdp_engine(const WorldShape &shape, uint32_t other_port_ifindex) {
  return std::make_unique<XdpEngine>(shape, other_port_ifindex);
}

}  // namespace sluice
