#include "controlplane/health/outlier_backend.h"

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
// When others fail from the same moment on, some of their clients still go on with what they got before.
constexpr auto kLastAnswers = 500ms;
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

/// How long after a connection was opened it shows as a failure of this kind.
milliseconds delay_of(PassiveSignal signal) {
  return signal == PassiveSignal::kUnanswered || signal == PassiveSignal::kRepeatedOpens ? kAnswerTime : 0ms;
}

bool went_down(const PassiveCounts &before, const PassiveCounts &now) {
  return now.opens < before.opens || now.progresses < before.progresses ||
         now.repeated_opens < before.repeated_opens || now.resets < before.resets ||
         now.unreachables < before.unreachables;
}

}  // namespace

OutlierMoment::OutlierMoment(const model::PassiveHealth &config, OutlierTime time)
    : now(time),
      part(time.time_since_epoch() /
           std::max<OutlierTime::duration>(OutlierTime::duration(config.window) / OutlierBackend::kParts,
                                           OutlierTime::duration(1))) {}

std::string Complaint::text(const model::PassiveHealth &config) const {
  if (kind == Kind::kRun) return run_text(signal, failures);
  return fmt::format("{} failures beside {} connections that made progress within {}", failures, progresses,
                     seconds_text(config.window));
}

bool is_worse(const Complaint &one, const Complaint &other) {
  if (one.kind != other.kind) return one.kind > other.kind;
  const double share = static_cast<double>(one.failures) * static_cast<double>(other.progresses);
  const double others_share = static_cast<double>(other.failures) * static_cast<double>(one.progresses);
  if (share != others_share) return share > others_share;
  return one.failures > other.failures;
}

void OutlierBackend::begin_anew() {
  run_ = {};
  progresses_ = 0;
  parts_ = {};
  opens_answered_ = last_.opens;
  unanswered_ = 0;
  spared_ = Spared::kNo;
  rests_ = false;
}

void OutlierBackend::take_news(const model::PassiveHealth &config, const OutlierMoment &moment,
                               const PassiveCounts &counts) {
  if (!is_known_ || went_down(last_, counts)) {
    last_ = counts;
    is_known_ = true;
    opens_taken_ = 0;
    begin_anew();
    return;
  }
  const OutlierTime now = moment.now;
  const PassiveCounts delta = {.opens = counts.opens - last_.opens,
                               .progresses = counts.progresses - last_.progresses,
                               .repeated_opens = counts.repeated_opens - last_.repeated_opens,
                               .resets = counts.resets - last_.resets,
                               .unreachables = counts.unreachables - last_.unreachables};
  Failures failures = {};
  failures[index_of(PassiveSignal::kUnanswered)] = newly_unanswered(now, delta, counts);
  failures[index_of(PassiveSignal::kRepeatedOpens)] = delta.repeated_opens;
  failures[index_of(PassiveSignal::kUnreachable)] = delta.unreachables;
  failures[index_of(PassiveSignal::kResets)] = delta.resets;
  for (size_t i = 0; i < model::kPassiveSignals; i++)
    if (!config.signals[i]) failures[i] = 0;
  if (counts.packets != last_.packets) traffic_at_ = moment.now;
  last_ = counts;
  count_run(config, now, delta.progresses, failures);
  Part *part = current_part(moment.part);
  part->progresses += delta.progresses;
  for (size_t i = 0; i < model::kPassiveSignals; i++) part->failures[i] += failures[i];
  forget_slowly(config, now);
  rests_ = has_nothing_to_remember(config, now);
}

void OutlierBackend::count_run(const model::PassiveHealth &config, OutlierTime now, uint64_t progresses,
                               const Failures &failures) {
  const bool has_failed = failures != Failures{};
  // What is long ago and what is now make no row.
  if (has_failed && now - failed_at_ > config.window) run_ = {};
  if (has_failed) failed_at_ = now;
  if (progresses > 0) progressed_at_ = now;
  progresses_ += progresses;
  if (state_ == OutlierState::kProbing && has_failed) {
    progresses_ = 0;
    probing_since_ = now;
  }
  // In a sample with both it is not known which came first. One that is being tried must do without a
  // failure.
  const bool is_strict = state_ == OutlierState::kProbing && spared_ == Spared::kNo;
  if (progresses > 0 && !is_strict) {
    run_ = {};
  } else if (has_failed) {
    if (run_ == Failures{}) run_began_ = now;
    for (size_t i = 0; i < model::kPassiveSignals; i++) run_[i] += failures[i];
  }
}

/// Connections that were opened after the last sign of an answer and are a second old now. A client's reset
/// is such a sign, too: of a connection that it only asked for, it breaks off what it got.
uint64_t OutlierBackend::newly_unanswered(OutlierTime now, const PassiveCounts &delta,
                                          const PassiveCounts &counts) {
  if (delta.opens > 0) opens_[opens_taken_++ % kOpensKept] = {now, counts.opens};
  if (delta.progresses > 0 || delta.resets > 0) {
    opens_answered_ = counts.opens;
    unanswered_ = 0;
    return 0;
  }
  if (opens_answered_ + unanswered_ == counts.opens) return 0;
  uint64_t old = opens_answered_;
  for (size_t i = 0; i < std::min(opens_taken_, kOpensKept); i++)
    if (now - opens_[i].at >= kAnswerTime) old = std::max(old, opens_[i].opens);
  const uint64_t before = std::exchange(unanswered_, old - opens_answered_);
  return unanswered_ - before;
}

OutlierBackend::Part *OutlierBackend::current_part(int64_t number) {
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

bool OutlierBackend::has_nothing_to_remember(const model::PassiveHealth &config, OutlierTime now) const {
  return state_ == OutlierState::kServing && ejections_ == 0 && spared_ == Spared::kNo &&
         opens_answered_ + unanswered_ == last_.opens &&
         now - std::max({failed_at_, progressed_at_, traffic_at_}) > config.window;
}

Complaint OutlierBackend::complaint(const model::PassiveHealth &config, OutlierTime now) const {
  if (state_ == OutlierState::kEjected || now - failed_at_ > config.window) return {};
  const uint64_t limit = state_ == OutlierState::kProbing ? 1 : config.consecutive;
  if (limit > 0) {
    // Each kind counts the same connections in its own way: they are not added up.
    const auto most = std::ranges::max_element(run_);
    if (*most >= limit) {
      const auto signal = static_cast<PassiveSignal>(most - run_.begin());
      return {.kind = Complaint::Kind::kRun,
              .signal = signal,
              .failures = *most,
              .since = run_began_ - std::max(delay_of(signal) - kLastAnswers, 0ms)};
    }
  }
  return state_ == OutlierState::kServing ? rate_complaint(config, now) : Complaint{};
}

Complaint OutlierBackend::rate_complaint(const model::PassiveHealth &config, OutlierTime now) const {
  if (config.failure_rate_percent == 0) return {};
  uint64_t progresses = 0;
  Failures sums = {};
  for (const Part &part : parts_) {
    progresses += part.progresses;
    // One connection repeats its SYN several times: beside those that went on that is no share.
    for (size_t i = 0; i < sums.size(); i++)
      sums[i] += i == index_of(PassiveSignal::kRepeatedOpens) ? 0 : part.failures[i];
  }
  const auto most = std::ranges::max_element(sums);
  const uint64_t all = *most + progresses;
  if (*most == 0 || all < config.min_connections) return {};
  if (*most * 100 < all * config.failure_rate_percent) return {};
  const bool gets_through = now - progressed_at_ <= kAnswerTime;
  const OutlierTime since =
      gets_through ? OutlierTime{} : std::max(progressed_at_ + kLastAnswers, run_began_ - kAnswerTime);
  return {.kind = Complaint::Kind::kRate,
          .signal = static_cast<PassiveSignal>(most - sums.begin()),
          .failures = *most,
          .progresses = progresses,
          .since = std::max(now - config.window, since)};
}

void OutlierBackend::eject(const model::PassiveHealth &config, OutlierTime now, const Complaint &why) {
  state_ = OutlierState::kEjected;
  ejections_ = std::min(ejections_ + 1, kMostDoublings);
  ejected_at_ = now;
  until_ = now + length_of(config, ejections_);
  why_ = why;
  begin_anew();
}

void OutlierBackend::probe(OutlierTime now) {
  state_ = OutlierState::kProbing;
  probing_since_ = now;
  begin_anew();
}

void OutlierBackend::serve(OutlierTime now) {
  state_ = OutlierState::kServing;
  quiet_since_ = now;
  begin_anew();
}

void OutlierBackend::stand_aside(OutlierTime now) {
  failed_at_ = {};
  probing_since_ = now;
  begin_anew();
}

bool OutlierBackend::has_passed(const model::PassiveHealth &config, OutlierTime now) const {
  if (state_ != OutlierState::kProbing) return false;
  return has_proof(config) || now - probing_since_ >= config.window + length_of(config, ejections_);
}

bool OutlierBackend::spare(const model::PassiveHealth &config, OutlierTime now, Spared why,
                           const Complaint &complaint) {
  const bool is_new = why != told_ || now - spared_at_ > config.window;
  spared_ = told_ = why;
  spared_at_ = now;
  spared_for_ = complaint;
  return is_new;
}

std::string OutlierBackend::text(const model::PassiveHealth &config, OutlierTime now) const {
  switch (state_) {
    case OutlierState::kServing:
      return "";
    case OutlierState::kEjected:
      return fmt::format("{}; tried again in {} ({})", why_.text(config),
                         seconds_text(std::chrono::ceil<milliseconds>(until_ - now)), times_text(ejections_));
    case OutlierState::kProbing:
      return fmt::format("tried again: {} of {} connections made progress; ejected before: {}",
                         std::min<uint64_t>(progresses_, config.probes), config.probes, why_.text(config));
  }
  return "";
}

}  // namespace sluice
