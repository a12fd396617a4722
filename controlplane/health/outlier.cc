#include "controlplane/health/outlier.h"

#include <algorithm>
#include <set>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

using namespace std::chrono_literals;
using model::PassiveSignal;
using std::chrono::milliseconds;

// A client's first SYN retransmission (RFC 6298 section 2): one that is answered at all has its answer by
// then.
constexpr auto kAnswerTime = 1s;
constexpr unsigned kMostDoublings = 20;

constexpr size_t index_of(PassiveSignal signal) { return static_cast<size_t>(signal); }

milliseconds length_of(const model::PassiveHealth &config, unsigned ejection) {
  milliseconds length = config.ejection;
  for (unsigned i = 1; i < ejection && length < config.max_ejection; i++) length *= 2;
  return std::min(length, config.max_ejection);
}

std::string seconds_text(milliseconds duration) {
  return fmt::format("{} s", std::chrono::ceil<std::chrono::seconds>(std::max(duration, 0ms)).count());
}

std::string times_text(unsigned times) {
  const unsigned last = times % 10, two = times % 100;
  const bool teen = two >= 11 && two <= 13;
  const char *ending = teen || last == 0 || last > 3 ? "th" : last == 1 ? "st" : last == 2 ? "nd" : "rd";
  return fmt::format("{}{} time", times, ending);
}

/// `count` failures of a kind, in a row.
std::string run_text(PassiveSignal signal, uint64_t count) {
  const char *s = count == 1 ? "" : "s";
  const std::string in_a_row = count == 1 ? "" : " in a row";
  switch (signal) {
    case PassiveSignal::kUnanswered:
      return fmt::format("{} connection{}{} made no progress", count, s, in_a_row);
    case PassiveSignal::kRepeatedOpens:
      return fmt::format("{} repeated SYN{}{} without progress", count, s, in_a_row);
    case PassiveSignal::kUnreachable:
      return fmt::format("{} ICMP error{}{}: unreachable", count, s, in_a_row);
    case PassiveSignal::kResets:
      return fmt::format("{} reset{}{} by clients", count, s, in_a_row);
  }
  return "";
}

bool went_down(const PassiveCounts &before, const PassiveCounts &now) {
  return now.opens < before.opens || now.progresses < before.progresses ||
         now.repeated_opens < before.repeated_opens || now.resets < before.resets ||
         now.unreachables < before.unreachables;
}

}  // namespace

// One backend.

void OutlierBackend::begin_anew() {
  run_ = {};
  progresses_ = 0;
  parts_ = {};
  opens_answered_ = last_ ? last_->opens : 0;
  unanswered_ = 0;
  spared_.clear();
}

void OutlierBackend::take(const model::PassiveHealth &config, OutlierTime now, const PassiveCounts &counts) {
  if (!last_ || went_down(*last_, counts)) {
    last_ = counts;
    opens_taken_ = 0;
    begin_anew();
    return;
  }
  const PassiveCounts delta = {.opens = counts.opens - last_->opens,
                               .progresses = counts.progresses - last_->progresses,
                               .repeated_opens = counts.repeated_opens - last_->repeated_opens,
                               .resets = counts.resets - last_->resets,
                               .unreachables = counts.unreachables - last_->unreachables};
  Failures failures = {};
  failures[index_of(PassiveSignal::kUnanswered)] = newly_unanswered(now, delta, counts);
  failures[index_of(PassiveSignal::kRepeatedOpens)] = delta.repeated_opens;
  failures[index_of(PassiveSignal::kUnreachable)] = delta.unreachables;
  failures[index_of(PassiveSignal::kResets)] = delta.resets;
  last_ = counts;
  // In a sample with both it is not known which came first. A probing one must do without a failure.
  if (delta.progresses > 0 && state_ == OutlierState::kServing) run_ = {};
  // What is long ago and what is now make no row.
  const bool has_failed = failures != Failures{};
  if (has_failed && now - failed_at_ > config.window) run_ = {};
  if (has_failed) failed_at_ = now;
  progresses_ += delta.progresses;
  Part *part = current_part(config, now);
  part->progresses += delta.progresses;
  for (size_t i = 0; i < model::kPassiveSignals; i++) {
    if (!config.signals[i]) continue;
    run_[i] += delta.progresses > 0 && state_ == OutlierState::kServing ? 0 : failures[i];
    part->failures[i] += failures[i];
  }
  forget_slowly(config, now);
}

/// Connections that were opened after the last sign of an answer and are a second old now. A client's reset
/// is such a sign, too: of a connection that it only asked for, it breaks off what it got.
uint64_t OutlierBackend::newly_unanswered(OutlierTime now, const PassiveCounts &delta,
                                          const PassiveCounts &counts) {
  opens_[opens_taken_++ % kOpensKept] = {now, counts.opens};
  if (delta.progresses > 0 || delta.resets > 0) {
    opens_answered_ = counts.opens;
    unanswered_ = 0;
    return 0;
  }
  uint64_t old = opens_answered_;
  for (size_t i = 0; i < std::min(opens_taken_, kOpensKept); i++)
    if (now - opens_[i].at >= kAnswerTime) old = std::max(old, opens_[i].opens);
  const uint64_t before = std::exchange(unanswered_, old - opens_answered_);
  return unanswered_ - before;
}

OutlierBackend::Part *OutlierBackend::current_part(const model::PassiveHealth &config, OutlierTime now) {
  const auto length = std::max<OutlierTime::duration>(OutlierTime::duration(config.window) / kParts,
                                                      OutlierTime::duration(1));
  const int64_t number = now.time_since_epoch() / length;
  if (number - part_ >= static_cast<int64_t>(kParts) || number < part_) {
    parts_ = {};
  } else {
    for (int64_t i = part_ + 1; i <= number; i++) parts_[static_cast<size_t>(i) % kParts] = {};
  }
  part_ = number;
  return &parts_[static_cast<size_t>(number) % kParts];
}

void OutlierBackend::forget_slowly(const model::PassiveHealth &config, OutlierTime now) {
  if (state_ != OutlierState::kServing) return;
  while (ejections_ > 0 && now - quiet_since_ >= length_of(config, ejections_)) {
    quiet_since_ += length_of(config, ejections_);
    ejections_--;
  }
}

std::optional<std::string> OutlierBackend::complaint(const model::PassiveHealth &config) const {
  if (state_ == OutlierState::kEjected) return std::nullopt;
  const uint64_t limit = state_ == OutlierState::kProbing ? 1 : config.consecutive;
  if (limit > 0) {
    // Each kind counts the same connections in its own way: they are not added up.
    const auto most = std::ranges::max_element(run_);
    if (*most >= limit) return run_text(static_cast<PassiveSignal>(most - run_.begin()), *most);
  }
  return state_ == OutlierState::kServing ? rate_complaint(config) : std::nullopt;
}

std::optional<std::string> OutlierBackend::rate_complaint(const model::PassiveHealth &config) const {
  if (config.failure_rate_percent == 0) return std::nullopt;
  uint64_t progresses = 0;
  Failures sums = {};
  for (const Part &part : parts_) {
    progresses += part.progresses;
    // One connection repeats its SYN several times: beside those that went on that is no share.
    for (size_t i = 0; i < sums.size(); i++)
      sums[i] += i == index_of(PassiveSignal::kRepeatedOpens) ? 0 : part.failures[i];
  }
  const uint64_t failures = *std::ranges::max_element(sums);
  const uint64_t all = failures + progresses;
  if (failures == 0 || all < config.min_connections) return std::nullopt;
  if (failures * 100 < all * config.failure_rate_percent) return std::nullopt;
  return fmt::format("{} failures beside {} connections that made progress within {}", failures, progresses,
                     seconds_text(config.window));
}

void OutlierBackend::eject(const model::PassiveHealth &config, OutlierTime now, std::string why) {
  state_ = OutlierState::kEjected;
  ejections_ = std::min(ejections_ + 1, kMostDoublings);
  until_ = now + length_of(config, ejections_);
  why_ = std::move(why);
  begin_anew();
}

void OutlierBackend::probe(OutlierTime now) {
  state_ = OutlierState::kProbing;
  probing_since_ = now;
  begin_anew();
}

bool OutlierBackend::has_passed(const model::PassiveHealth &config, OutlierTime now) const {
  if (state_ != OutlierState::kProbing) return false;
  return progresses_ >= config.probes ||
         now - probing_since_ >= config.window + length_of(config, ejections_);
}

void OutlierBackend::serve(OutlierTime now) {
  state_ = OutlierState::kServing;
  quiet_since_ = now;
  begin_anew();
}

std::string OutlierBackend::text(const model::PassiveHealth &config, OutlierTime now) const {
  switch (state_) {
    case OutlierState::kServing:
      return spared_;
    case OutlierState::kEjected:
      return fmt::format("{}; tried again in {} ({})", why_,
                         seconds_text(std::chrono::ceil<milliseconds>(until_ - now)), times_text(ejections_));
    case OutlierState::kProbing:
      return fmt::format("tried again: {} of {} connections made progress; ejected before: {}",
                         std::min<uint64_t>(progresses_, config.probes), config.probes, why_);
  }
  return "";
}

bool OutlierBackend::note_spared(std::string why) {
  const bool is_new = !why.empty() && spared_.empty();
  spared_ = std::move(why);
  return is_new;
}

// A pool.

namespace {

/// How many of `serving` backends may be out at once.
size_t ceiling_of(const model::PassiveHealth &config, size_t serving) {
  if (serving <= 1) return 0;
  return std::clamp<size_t>(serving * config.max_ejected_percent / 100, 1, serving - 1);
}

}  // namespace

std::vector<OutlierEvent> OutlierPool::observe(const model::PassiveHealth &config, OutlierTime now,
                                               std::span<const Member> members) {
  Events events;
  Share share = take_counts(config, now, members);
  for (const Member &member : members) judge(config, now, member, &share, &events);
  const bool nobody_else = share.serving > 0 && share.out == share.serving;
  for (const Member &member : members) {
    OutlierBackend &backend = backends_.at(member.name);
    if (backend.state() != OutlierState::kEjected) continue;
    const bool due = backend.is_due(now);
    if (!due && !(nobody_else && member.serves)) continue;
    backend.probe(now);
    events.push_back({member.name, OutlierEvent::Kind::kProbing,
                      due ? "its time is over" : "no other backend of the pool serves"});
  }
  return events;
}

OutlierPool::Share OutlierPool::take_counts(const model::PassiveHealth &config, OutlierTime now,
                                            std::span<const Member> members) {
  Share share;
  std::set<std::string_view> names;
  for (const Member &member : members) {
    names.insert(member.name);
    OutlierBackend &backend = backends_.try_emplace(member.name, member.identifier).first->second;
    if (backend.identifier() != member.identifier) backend = OutlierBackend(member.identifier);
    backend.take(config, now, member.counts);
    const bool out = backend.state() != OutlierState::kServing;
    // Who is down for another reason is not to be ejected for it, neither now nor when that is over.
    if (!member.serves && backend.state() != OutlierState::kEjected) backend.begin_anew();
    share.serving += member.serves ? 1 : 0;
    share.out += member.serves && out ? 1 : 0;
  }
  std::erase_if(backends_, [&names](const auto &entry) { return !names.contains(entry.first); });
  share.ceiling = ceiling_of(config, share.serving);
  return share;
}

void OutlierPool::judge(const model::PassiveHealth &config, OutlierTime now, const Member &member,
                        Share *share, Events *events) {
  using Kind = OutlierEvent::Kind;
  OutlierBackend &backend = backends_.at(member.name);
  const auto why = backend.complaint(config);
  if (!why) {
    backend.note_spared("");
    const bool has_proof = backend.progresses() >= config.probes;
    if (!backend.has_passed(config, now)) return;
    backend.serve(now);
    if (member.serves) share->out--;
    events->push_back({member.name, Kind::kReturned,
                       has_proof
                           ? fmt::format("{} connections made progress without a failure", config.probes)
                           : "nothing spoke against it while it was tried"});
  } else if (backend.state() == OutlierState::kProbing) {
    backend.eject(config, now, *why);
    events->push_back({member.name, Kind::kEjected, backend.text(config, now)});
  } else if (share->out < share->ceiling) {
    backend.eject(config, now, *why);
    share->out++;
    events->push_back({member.name, Kind::kEjected, backend.text(config, now)});
  } else {
    const std::string others = share->serving <= 1
                                   ? "no other backend of the pool serves"
                                   : fmt::format("{} of {} are, max_ejected is {}%", share->out,
                                                 share->serving, config.max_ejected_percent);
    const std::string text = fmt::format("{}; not ejected: {}", *why, others);
    if (backend.note_spared(text)) events->push_back({member.name, Kind::kSpared, text});
  }
}

OutlierState OutlierPool::state(const std::string &backend) const {
  const auto found = backends_.find(backend);
  return found == backends_.end() ? OutlierState::kServing : found->second.state();
}

std::string OutlierPool::text(const model::PassiveHealth &config, const std::string &backend,
                              OutlierTime now) const {
  const auto found = backends_.find(backend);
  return found == backends_.end() ? "" : found->second.text(config, now);
}

}  // namespace sluice
