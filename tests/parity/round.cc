#include "tests/parity/round.h"

#include <algorithm>
#include <cstring>

#include "tests/core/test_tables.h"
#include "tests/parity/packets.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

constexpr size_t kLongestInSeveralBuffers = 9000;  // bytes
constexpr uint32_t kMostFramesInBurst = 32;

std::string hex(const Bytes &bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

const char *way_name(Way way) {
  constexpr const char *kNames[] = {"nowhere", "to the kernel", "back", "by the other port"};
  return kNames[static_cast<size_t>(way)];
}

std::string text_of(const Outcome &outcome) {
  std::string text = verdict_name(outcome.verdict) + ", goes " + way_name(outcome.way);
  if (outcome.backend != 0)
    text += ", service " + std::to_string(outcome.service) + ", backend " + std::to_string(outcome.backend);
  return text + "\n    " + hex(outcome.out);
}

std::string text_of(const Budgets &budgets) {
  return "adoption " + std::to_string(budgets.adoption_lookups[0]) + "/" +
         std::to_string(budgets.adoption_lookups[1]) + ", displacement " +
         std::to_string(budgets.displacement_steps) + ", ICMP " + std::to_string(budgets.icmp_replies);
}

/// The first 64-bit word in which two blocks of memory differ, with both values; empty if none does.
std::string first_difference(const void *one, const void *other, size_t size) {
  if (std::memcmp(one, other, size) == 0) return "";
  for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
    uint64_t a = 0, b = 0;
    std::memcpy(&a, static_cast<const char *>(one) + i * sizeof(a), sizeof(a));
    std::memcpy(&b, static_cast<const char *>(other) + i * sizeof(b), sizeof(b));
    if (a == b) continue;
    char text[80];
    std::snprintf(text, sizeof(text), "word %zu is %016llx and %016llx", i,
                  static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
    return text;
  }
  return "the last bytes differ";
}

template <typename Records>
std::string first_difference(const Records &one, const Records &other) {
  return first_difference(one.data(), other.data(), one.size_bytes());
}

}  // namespace

Round::Round(uint64_t seed, uint32_t other_port_ifindex, Totals *totals)
    : random_(seed),
      world_(&random_),
      others_active_(world_.shape().workers, std::vector<uint32_t>(64)),
      engines_{make_host_engine(world_.shape()), make_burst_engine(world_.shape()),
               make_xdp_engine(world_.shape(), other_port_ifindex)},
      totals_(totals),
      now_s_(random_.chance(50) ? 8100 : random_.below(1u << 30)),  // stamps wrap soon
      longest_frame_(world_.shape().buffers == FrameBuffers::kSeveral ? kLongestInSeveralBuffers
                                                                      : LoadedProgram::kLongestFrame) {
  install_next();
  for (uint32_t worker = 0; worker < world_.shape().workers; worker++) set_budgets(worker);
}

std::string Round::run(uint64_t packets) {
  const uint64_t end = totals_->packets + packets;
  while (totals_->packets < end) {
    std::string difference = step();
    if (!difference.empty()) return difference;
  }
  note_events();
  return compare_counts();
}

std::string Round::step() {
  const uint32_t worker = random_.below(world_.shape().workers);
  const uint32_t what = random_.below(1000);
  if (what < 860) return burst();
  if (what < 910) {
    pass_time();
  } else if (what < 915) {
    install_next();
  } else if (what < 935) {
    sweep(worker);
  } else if (what < 965) {
    set_budgets(worker);
  } else if (what < 985) {
    set_others_active(worker);
  } else {
    exchange_table_with_former_worker();
  }
  const std::string difference = compare_state();
  return difference.empty() ? "" : "after step " + std::to_string(what) + " without a packet:\n" + difference;
}

std::string Round::burst() {
  const uint32_t worker = random_.below(world_.shape().workers);
  std::vector<Bytes> frames(random_.chance(20) ? 1 : random_.between(1, kMostFramesInBurst));
  for (Bytes &frame : frames) frame = random_frame(&random_, world_, longest_frame_);
  const uint32_t steps_before = engines_[0]->budgets(worker).displacement_steps;
  // The host core is not asked: its tables show whether a dry run has changed those of the others.
  const std::array<DryRun, 2> explained = {explain(1, worker, frames[0]), explain(2, worker, frames[0])};
  std::array<std::vector<Outcome>, 3> outcomes;
  for (size_t i = 0; i < engines_.size(); i++) outcomes[i] = engines_[i]->run(worker, now_s_, frames);
  totals_->displacement_steps += steps_before - engines_[0]->budgets(worker).displacement_steps;
  note(outcomes[0]);

  std::string difference = compare_outcomes(frames, outcomes) + compare_state();
  for (size_t i = 1; i < engines_.size(); i++)
    difference += compare_explained(i, explained[i - 1], frames[0], outcomes[i][0]);
  totals_->explained++;
  totals_->explained_verdicts[explained[0].verdict]++;
  if (difference.empty()) return "";
  difference = "worker " + std::to_string(worker) + " of " + std::to_string(world_.shape().workers) +
               ", second " + std::to_string(now_s_) + ", a burst of " + std::to_string(frames.size()) +
               ":\n" + difference + "the burst:\n";
  for (const Bytes &frame : frames) difference += "  " + hex(frame) + "\n";
  return difference;
}

DryRun Round::explain(size_t index, uint32_t worker, const Bytes &frame) {
  constexpr size_t kGiven = 1024;  // as sluicectl does: headers are among the first bytes
  ParityEngine &engine = *engines_[index];
  const WorldShape &shape = world_.shape();
  const Budgets left = engine.budgets(worker);
  LiveTables live;
  live.forwarding = &generation_;
  for (uint32_t table = 0; table < shape.tables; table++) {
    const std::span<const ConnectionBucket> buckets = engine.table(table);
    live.connections.push_back(
        {{buckets.first(shape.ipv4_buckets), buckets.subspan(shape.ipv4_buckets, shape.ipv6_buckets)}});
  }
  live.workers = shape.workers;
  live.active_connections = [&](uint32_t of, uint16_t backend) {
    return others_active_[of][backend] + engine.backends(of)[backend].active_connections;
  };
  live.now_s = now_s_;
  live.budgets = {left.adoption_lookups, left.displacement_steps, left.icmp_replies};
  return dry_run(live, {std::span(frame).first(std::min(frame.size(), kGiven)),
                        static_cast<uint32_t>(frame.size()), worker});
}

std::string Round::compare_explained(size_t index, const DryRun &explained, const Bytes &frame,
                                     const Outcome &outcome) const {
  const bool is_forwarded = verdict_class(explained.verdict) == kVerdictClassForward;
  const uint32_t service =
      is_forwarded ? static_cast<uint32_t>(explained.service - generation_.snapshot->services().data()) : 0;
  const uint16_t backend = is_forwarded ? explained.backend : uint16_t{0};
  if (explained.verdict == outcome.verdict && backend == outcome.backend && service == outcome.service)
    return "";
  return "frame 0: " + hex(frame) + "\n  explained over the tables of " + engines_[index]->name() + ": " +
         verdict_name(explained.verdict) + ", service " + std::to_string(service) + ", backend " +
         std::to_string(backend) + "\n  became: " + text_of(outcome) + "\n";
}

void Round::pass_time() {
  // Little, mostly. Back, too: the workers' clocks may be apart by no more than kClockSkewS.
  now_s_ += random_.chance(90) ? random_.between(0, 12) : random_.pick({60u, 700u, 8000u, 8192u});
  if (random_.chance(10)) now_s_ -= random_.pick({1u, 59u, 60u, 61u});
}

void Round::install_next() {
  generation_ = world_.next_generation(&random_);
  for (const auto &engine : engines_) engine->install(generation_);
  totals_->generations++;
}

void Round::sweep(uint32_t worker) {
  for (const auto &engine : engines_) engine->sweep(worker, now_s_);
}

void Round::set_budgets(uint32_t worker) {
  const auto amount = [this] { return random_.pick({0u, 1u, 3u, 20u, 100u, 1000u}); };
  const Budgets budgets = {{amount(), amount()}, amount(), amount()};
  for (const auto &engine : engines_) engine->set_budgets(worker, budgets);
}

void Round::set_others_active(uint32_t worker) {
  std::vector<uint32_t> active(64);
  for (uint32_t other = 0; other < world_.shape().workers; other++)
    for (size_t i = 0; i < active.size() && other != worker; i++)
      active[i] += engines_[0]->backends(other)[i].active_connections;
  if (random_.chance(30))
    for (uint32_t &count : active) count = random_.below(50);
  for (const auto &engine : engines_) engine->set_others_active(worker, active);
  others_active_[worker] = std::move(active);
}

/// As when there are fewer workers than before, and more again: a table has nobody any more, but the
/// connections of one that somebody had; or a worker has a table again whose connections it has not counted.
void Round::exchange_table_with_former_worker() {
  const WorldShape &shape = world_.shape();
  if (shape.tables == shape.workers) return;
  const uint32_t own = random_.below(shape.workers);
  const uint32_t former = random_.between(shape.workers, shape.tables - 1);
  const bool returns = random_.chance(30), empty = random_.chance(50);
  for (const auto &engine : engines_) {
    std::ranges::copy(engine->table(returns ? former : own), engine->table(returns ? own : former).begin());
    if (empty) std::ranges::fill(engine->table(returns ? former : own), ConnectionBucket{});
  }
}

std::string Round::compare_outcomes(const std::vector<Bytes> &frames,
                                    const std::array<std::vector<Outcome>, 3> &outcomes) const {
  for (size_t i = 0; i < frames.size(); i++) {
    if (outcomes[0][i] == outcomes[1][i] && outcomes[0][i] == outcomes[2][i]) continue;
    std::string text = "frame " + std::to_string(i) + ": " + hex(frames[i]) + "\n";
    for (size_t engine = 0; engine < engines_.size(); engine++)
      text += "  " + engines_[engine]->name() + ": " + text_of(outcomes[engine][i]) + "\n";
    return text;
  }
  return "";
}

std::string Round::compare_state() const {
  std::string text;
  for (size_t i = 1; i < engines_.size(); i++) {
    for (uint32_t table = 0; table < world_.shape().tables; table++) {
      const std::string difference = first_difference(engines_[0]->table(table), engines_[i]->table(table));
      if (difference.empty()) continue;
      text.append("connection table ").append(std::to_string(table)).append(" of host and ");
      text.append(engines_[i]->name()).append(": ").append(difference).append("\n");
    }
    text += compare_workers(engines_[i].get());
  }
  return text;
}

std::string Round::compare_workers(ParityEngine *engine) const {
  const ParityEngine &first = *engines_[0];
  std::string text;
  for (uint32_t worker = 0; worker < world_.shape().workers; worker++) {
    const std::string which =
        "worker " + std::to_string(worker) + " of " + first.name() + " and " + engine->name() + ": ";
    const std::string counters =
        first_difference(&first.counters(worker), &engine->counters(worker), sizeof(WorkerCounters));
    if (!counters.empty()) text.append("counters of ").append(which).append(counters).append("\n");
    if (first.budgets(worker) == engine->budgets(worker)) continue;
    text.append("budgets of ").append(which).append(text_of(first.budgets(worker)));
    text.append(" and ").append(text_of(engine->budgets(worker))).append("\n");
  }
  return text;
}

/// What is per backend and per service: large, so once in a round.
std::string Round::compare_counts() const {
  std::string text;
  for (size_t i = 1; i < engines_.size(); i++) {
    for (uint32_t worker = 0; worker < world_.shape().workers; worker++) {
      const std::string which = " of worker " + std::to_string(worker) + " of " + engines_[0]->name() +
                                " and " + engines_[i]->name() + ": ";
      const std::string backends =
          first_difference(engines_[0]->backends(worker), engines_[i]->backends(worker));
      if (!backends.empty()) text.append("backend counters").append(which).append(backends).append("\n");
      const std::string services =
          first_difference(engines_[0]->services(worker), engines_[i]->services(worker));
      if (!services.empty()) text.append("service counters").append(which).append(services).append("\n");
    }
  }
  return text;
}

void Round::note(const std::vector<Outcome> &outcomes) {
  for (const Outcome &outcome : outcomes) {
    totals_->packets++;
    totals_->verdicts[outcome.verdict]++;
    totals_->ways[static_cast<size_t>(outcome.way)]++;
    if (outcome.backend == 0) continue;
    const bool outer_ipv6 = outcome.out[12] == 0x86;
    const uint8_t inner_protocol = outer_ipv6 ? outcome.out[14 + 6] : outcome.out[14 + 9];
    totals_->pairings[(inner_protocol == kProtocolIpv6 ? 2u : 0u) + (outer_ipv6 ? 1u : 0u)]++;
  }
}

void Round::note_events() {
  for (uint32_t worker = 0; worker < world_.shape().workers; worker++) {
    const WorkerCounters &counters = engines_[0]->counters(worker);
    totals_->evicted += counters.evicted_entries;
    totals_->expired += counters.expired_entries;
    totals_->adoption_lookups += counters.adoption_lookups;
    for (const BackendCounters &backend : engines_[0]->backends(worker)) {
      totals_->tcp_opens += backend.tcp_opens;
      totals_->tcp_progresses += backend.tcp_progresses;
      totals_->tcp_repeated_opens += backend.tcp_repeated_opens;
      totals_->tcp_resets += backend.tcp_resets;
    }
  }
}

}  // namespace sluice
