#include "controlplane/health/outlier.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

using namespace std::chrono_literals;

constexpr auto kTellAfter = 1s;
constexpr auto kRecoveryTime = 2s;  // a connection from before the end shows as a failure within it
constexpr auto kErrorTime =
    1s;  // by then an ICMP error about a packet is there: many routers send one a second

/// How many of `counted` backends may be out at once.
size_t ceiling_of(const model::PassiveHealth &config, size_t counted) {
  return std::max<size_t>(counted * config.max_ejected_percent / 100, 1);
}

}  // namespace

void OutlierPool::Tally::clear() {
  complainers.clear();
  well.clear();
  ejected.clear();
  *this = {.complainers = std::move(complainers), .well = std::move(well), .ejected = std::move(ejected)};
}

void OutlierPool::set_members(std::vector<Member> members) {
  std::unordered_map<std::string_view, size_t> before;
  for (size_t i = 0; i < members_.size(); i++) before.emplace(members_[i].name, i);
  std::vector<OutlierBackend> backends(members.size());
  for (size_t i = 0; i < members.size(); i++) {
    const auto found = before.find(members[i].name);
    if (found == before.end() || members_[found->second].identifier != members[i].identifier) continue;
    backends[i] = backends_[found->second];
  }
  members_ = std::move(members);
  backends_ = std::move(backends);
}

std::vector<OutlierEvent> OutlierPool::observe(const model::PassiveHealth &config, OutlierTime now,
                                               std::span<const Sample> samples) {
  take_counts(config, now, samples);
  Events events;
  note_well(config, now, &events);
  if (may_eject()) sort_complainers();
  for (const Complainer &complainer : tally_.complainers) judge(config, now, complainer, &events);
  try_ejected(config, now, samples, &events);
  tell_if_all_fail(config, now, &events);
  return events;
}

// Whom it spares it spares in any order.
bool OutlierPool::may_eject() const {
  return std::ranges::any_of(tally_.complainers, [this](const Complainer &one) {
    return spared_for(backends_[one.place], one.complaint) == Spared::kNo;
  });
}

void OutlierPool::sort_complainers() {
  std::ranges::sort(tally_.complainers, [this](const Complainer &one, const Complainer &other) {
    if (is_worse(one.complaint, other.complaint)) return true;
    if (is_worse(other.complaint, one.complaint)) return false;
    return members_[one.place].name < members_[other.place].name;
  });
}

void OutlierPool::take_counts(const model::PassiveHealth &config, OutlierTime now,
                              std::span<const Sample> samples) {
  const OutlierMoment moment(config, now);
  tally_.clear();
  for (size_t i = 0; i < samples.size(); i++) {
    OutlierBackend &backend = backends_[i];
    backend.take(config, moment, samples[i].counts);
    if (backend.rests()) {
      tally_.in_service += samples[i].serves ? 1 : 0;
      tally_.counted += samples[i].serves ? 1 : 0;
    } else {
      tally_one(config, now, i, samples[i].serves);
    }
  }
  tally_.ceiling = ceiling_of(config, tally_.counted);
}

void OutlierPool::tally_one(const model::PassiveHealth &config, OutlierTime now, size_t place, bool serves) {
  OutlierBackend &backend = backends_[place];
  const bool is_ejected = backend.state() == OutlierState::kEjected;
  // Who is down for another reason is not to be ejected for it, neither now nor when that is over.
  if (!serves && !is_ejected) return backend.stand_aside(now);
  // One that is ejected and down would be ejected still if its checks were well again.
  if (!serves && backend.is_due(now)) return;
  tally_.counted++;
  if (is_ejected) tally_.ejected.push_back(place);
  if (backend.state() == OutlierState::kServing) {
    tally_.in_service++;
  } else {
    tally_.out++;
  }
  if (const Complaint complaint = backend.complaint(config, now)) {
    tally_.complainers.push_back({place, complaint});
    tally_.failing++;
    if (complaint.kind == Complaint::Kind::kRate && !is_ejected)
      tally_.best_of_failing = std::max(tally_.best_of_failing, backend.progressed_at());
    return;
  }
  if (backend.fails(config, now)) tally_.failing++;
  if (is_ejected) return;
  tally_.best = std::max(tally_.best, backend.progressed_at());
  tally_.quiet = std::max(tally_.quiet, backend.quiet_traffic_at(config, now));
  if (backend.state() == OutlierState::kProbing || backend.spared() != Spared::kNo)
    tally_.well.push_back(place);
}

void OutlierPool::note_well(const model::PassiveHealth &config, OutlierTime now, Events *events) {
  for (const size_t place : tally_.well) {
    OutlierBackend &backend = backends_[place];
    backend.end_sparing();
    if (!backend.has_passed(config, now)) continue;
    const bool has_proof = backend.has_proof(config);
    backend.serve(now);
    tally_.out--;
    tally_.in_service++;
    events->push_back({place, OutlierEvent::Kind::kReturned,
                       has_proof
                           ? fmt::format("{} connections made progress without a failure", config.probes)
                           : "nothing spoke against it while it was tried"});
  }
}

bool OutlierPool::others_do_better(const Complaint &complaint) const {
  if (tally_.best >= complaint.since) return true;
  // Who fails in part does better than who fails altogether.
  if (complaint.kind == Complaint::Kind::kRun && tally_.best_of_failing >= complaint.since) return true;
  return complaint.is_refuted_by_silence() && tally_.quiet >= complaint.since + kErrorTime;
}

Spared OutlierPool::spared_for(const OutlierBackend &backend, const Complaint &complaint) const {
  const bool others_fail = tally_.failing > 1;
  if (others_fail && !others_do_better(complaint)) return Spared::kAllFail;
  const bool is_tried = backend.state() == OutlierState::kProbing;
  if (tally_.in_service <= (is_tried ? 0 : 1)) return Spared::kNobodyElse;
  return !is_tried && tally_.out >= tally_.ceiling ? Spared::kCeiling : Spared::kNo;
}

// When all are mended, the first one's clients go on a moment before the others': they get the time to.
bool OutlierPool::is_recovering(const OutlierBackend &backend) const {
  return all_fail_told_ && backend.spared() == Spared::kAllFail &&
         backend.failed_at() < *all_fail_told_ + kRecoveryTime;
}

void OutlierPool::judge(const model::PassiveHealth &config, OutlierTime now, const Complainer &complainer,
                        Events *events) {
  const auto &[place, complaint] = complainer;
  OutlierBackend &backend = backends_[place];
  Spared spared = spared_for(backend, complaint);
  if (spared == Spared::kAllFail) tally_.all_fail = true;
  if (spared == Spared::kNo && is_recovering(backend)) spared = Spared::kAllFail;
  if (spared == Spared::kNo) {
    if (backend.state() == OutlierState::kServing) {
      tally_.out++;
      tally_.in_service--;
    }
    backend.eject(config, now, complaint);
    events->push_back({place, OutlierEvent::Kind::kEjected, backend.text(config, now)});
    return;
  }
  const bool is_new = backend.spare(config, now, spared, complaint);
  if (is_new && spared != Spared::kAllFail)
    events->push_back({place, OutlierEvent::Kind::kSpared, spared_text(config, backend)});
}

void OutlierPool::try_ejected(const model::PassiveHealth &config, OutlierTime now,
                              std::span<const Sample> samples, Events *events) {
  for (const size_t place : tally_.ejected) {
    OutlierBackend &backend = backends_[place];
    if (!samples[place].serves) continue;
    const char *why = backend.is_due(now)                          ? "its time is over"
                      : tally_.in_service == 0                     ? "no other backend of the pool serves"
                      : !tally_.all_fail                           ? nullptr
                      : backend.is_due_while_all_fail(config, now) ? "all others fail, too"
                                                                   : nullptr;
    if (why == nullptr) continue;
    backend.probe(now);
    events->push_back({place, OutlierEvent::Kind::kProbing, why});
  }
}

// Once, and not for each backend: it may be thousands. Nor for what the next client's progress refutes.
void OutlierPool::tell_if_all_fail(const model::PassiveHealth &config, OutlierTime now, Events *events) {
  if (!tally_.all_fail) {
    all_fail_since_.reset();
    return;
  }
  if (!all_fail_since_) all_fail_since_ = now;
  if (now - *all_fail_since_ < kTellAfter) return;
  const bool is_told = all_fail_told_ && now - *all_fail_told_ <= config.window;
  all_fail_told_ = now;
  if (is_told) return;
  events->push_back(
      {0, OutlierEvent::Kind::kAllFail,
       fmt::format("all {} backends that have traffic fail, so none is ejected", tally_.failing)});
}

std::vector<OutlierEvent> OutlierPool::let_back(OutlierTime now) {
  Events events;
  for (size_t i = 0; i < backends_.size(); i++) {
    // One that is tried would have its small share for as long as nobody sees how it does.
    if (!backends_[i].is_due(now) && backends_[i].state() != OutlierState::kProbing) continue;
    backends_[i].serve(now);
    events.push_back(
        {i, OutlierEvent::Kind::kReturned, "its time is over, and it cannot be seen how it does"});
  }
  return events;
}

std::string OutlierPool::spared_text(const model::PassiveHealth &config,
                                     const OutlierBackend &backend) const {
  const std::string why = backend.spared_for().text(config);
  switch (backend.spared()) {
    case Spared::kNo:
      return "";
    case Spared::kAllFail:
      return fmt::format("{}; not ejected: all {} backends that have traffic fail", why, tally_.failing);
    case Spared::kNobodyElse:
      return why + "; not ejected: no other backend of the pool serves";
    case Spared::kCeiling:
      return fmt::format("{}; not ejected: {} of {} are, max_ejected is {}%", why, tally_.out, tally_.counted,
                         config.max_ejected_percent);
  }
  return "";
}

std::string OutlierPool::text(const model::PassiveHealth &config, size_t place, OutlierTime now) const {
  const OutlierBackend &backend = backends_[place];
  std::string spared = spared_text(config, backend);
  if (backend.state() == OutlierState::kServing) return spared;
  std::string text = backend.text(config, now);
  return spared.empty() ? text : text + "; " + spared;
}

}  // namespace sluice
