// Maglev tables: what building one costs, how even its shares are, and how much a lost backend moves
// (the Maglev paper, NSDI 2016, sections 5.3 and figures 11 and 12).
#include <algorithm>
#include <chrono>
#include <random>

#include "controlplane/compile/maglev.h"
#include "tools/bench/benches.h"

namespace sluice::bench {

namespace {

constexpr uint32_t kSlots = 65537;

std::vector<std::string> backend_names(uint32_t count) {
  std::vector<std::string> names;
  for (uint32_t i = 1; i <= count; i++) names.push_back("backend-" + std::to_string(i));
  return names;
}

std::vector<MaglevMember> members_of(const std::vector<std::string> &names) {
  std::vector<MaglevMember> members;
  for (size_t i = 0; i < names.size(); i++) members.push_back({names[i], static_cast<uint16_t>(i + 1), 100});
  return members;
}

double build_milliseconds(const std::vector<MaglevMember> &members, uint32_t rounds) {
  std::vector<double> times;
  for (uint32_t round = 0; round < rounds; round++) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<uint16_t> table = build_maglev(members, kSlots);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (table.size() == kSlots) times.push_back(took.count());
  }
  return median(std::move(times));
}

/// Largest and smallest share over the mean share.
std::pair<double, double> evenness(const std::vector<uint16_t> &table, size_t backends) {
  std::vector<uint32_t> slots(backends + 1);
  for (const uint16_t id : table) slots[id]++;
  const auto [least, most] = std::minmax_element(slots.begin() + 1, slots.end());
  const double mean = static_cast<double>(table.size()) / static_cast<double>(backends);
  return {*most / mean, *least / mean};
}

/// Share of slots that change though their own backend stays, when `lost` random backends go: what a
/// perfect consistent hash would leave at 0. Averaged over `rounds`.
double needless_moves(const std::vector<MaglevMember> &members, uint32_t lost, uint32_t rounds,
                      uint64_t seed) {
  const std::vector<uint16_t> before = build_maglev(members, kSlots);
  std::mt19937_64 random(seed);
  uint64_t moved = 0;
  for (uint32_t round = 0; round < rounds; round++) {
    std::vector<MaglevMember> left = members;
    std::shuffle(left.begin(), left.end(), random);
    std::vector<bool> gone(members.size() + 1);
    for (uint32_t i = 0; i < lost; i++) gone[left[i].id] = true;
    left.erase(left.begin(), left.begin() + lost);
    const std::vector<uint16_t> after = build_maglev(left, kSlots);
    for (uint32_t slot = 0; slot < kSlots; slot++)
      moved += !gone[before[slot]] && before[slot] != after[slot];
  }
  return static_cast<double>(moved) / rounds / kSlots;
}

}  // namespace

void bench_maglev(const BenchOptions &options, Report *report) {
  const uint32_t rounds = options.depth == Depth::kQuick ? 3 : 15;
  report->section("Maglev: 65,537 slots (moved: slots that changed though their backend stayed)",
                  {"backends", "build ms", "most/mean", "least/mean", "lost 1: moved", "lost 1%: moved"});
  for (const uint32_t backends : {10u, 100u, 1000u}) {
    const std::vector<std::string> names = backend_names(backends);
    const std::vector<MaglevMember> members = members_of(names);
    const double milliseconds = build_milliseconds(members, rounds);
    const auto [most, least] = evenness(build_maglev(members, kSlots), backends);
    const double one = needless_moves(members, 1, rounds, options.seed);
    const double percent = needless_moves(members, std::max(1u, backends / 100), rounds, options.seed);
    char cells[5][24];
    const double values[] = {milliseconds, most, least, one * 100, percent * 100};
    for (int i = 0; i < 5; i++)
      std::snprintf(cells[i], sizeof(cells[i]), i < 3 ? "%.3f" : "%.2f%%", values[i]);
    report->line({std::to_string(backends), cells[0], cells[1], cells[2], cells[3], cells[4]},
                 {{"bench", "maglev"},
                  {"slots", kSlots},
                  {"backends", backends},
                  {"build_ms", milliseconds},
                  {"most_over_mean", most},
                  {"least_over_mean", least},
                  {"moved_when_one_is_lost", one},
                  {"moved_when_one_percent_is_lost", percent}});
  }
}

}  // namespace sluice::bench
