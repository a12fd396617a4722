// The core itself, one frame at a time.
#include "tests/parity/memory_engine.h"

namespace sluice {
namespace {

Way way_of(const Decided &decided) {
  switch (verdict_class(decided.verdict())) {
    case kVerdictClassForward:
      return way_by_port(decided.decision.egress->port);
    case kVerdictClassReply:
      return Way::kBack;
    case kVerdictClassPass:
      return Way::kToKernel;
    case kVerdictClassDrop:
      return Way::kNowhere;
  }
  return Way::kNowhere;
}

class HostEngine : public MemoryEngine {
 public:
  using MemoryEngine::MemoryEngine;
  std::string name() const override { return "host"; }

  std::vector<Outcome> run(uint32_t worker, uint32_t now_s, std::span<const Bytes> frames) override {
    std::vector<Outcome> outcomes;
    for (const Bytes &frame : frames) outcomes.push_back(run_one(worker, now_s, frame));
    return outcomes;
  }

 private:
  Outcome run_one(uint32_t worker, uint32_t now_s, const Bytes &frame) {
    const Tables &tables = tables_of(worker);
    const Decided decided = decide_frame(tables, frame, now_s);
    Outcome outcome;
    outcome.verdict = decided.verdict();
    outcome.way = way_of(decided);
    outcome.out = outcome.way == Way::kToKernel ? frame : leaving_frame(frame, decided);
    WorkerCounters &counters = counters_of(worker);
    counters.received_packets++;
    counters.received_bytes += frame.size();
    counters.verdict_packets[outcome.verdict]++;
    count_transmitted(worker, outcome);
    if (verdict_class(decided.verdict()) != kVerdictClassForward) return outcome;
    outcome.backend = decided.decision.backend;
    outcome.service = decided.decision.service;
    tables.backend_counters[outcome.backend].packets++;
    tables.backend_counters[outcome.backend].bytes += frame.size();
    tables.service_counters[outcome.service].packets++;
    tables.service_counters[outcome.service].bytes += frame.size();
    return outcome;
  }
};

}  // namespace

std::unique_ptr<ParityEngine> make_host_engine(const WorldShape &shape) {
  return std::make_unique<HostEngine>(shape);
}

}  // namespace sluice
