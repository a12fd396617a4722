#include "controlplane/discovery/pool_feed.h"

#include <algorithm>
#include <utility>

#include <spdlog/fmt/chrono.h>
#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

int64_t whole_seconds(std::chrono::steady_clock::duration time) {
  return std::max<int64_t>(0, std::chrono::ceil<std::chrono::seconds>(time).count());
}

std::string count_text(size_t backends) {
  return fmt::format("{} backend{}", backends, backends == 1 ? "" : "s");
}

std::string list_text(const SkippedEntries &list, const char *what) {
  if (list.empty()) return "";
  return fmt::format("; {} {} {}, the first: {}", list.count(), list.count() > 1 ? "entries" : "entry", what,
                     list.first().front());
}

}  // namespace

const char *source_state_name(SourceState state) {
  switch (state) {
    case SourceState::kAsked:
      return "asked";
    case SourceState::kOk:
      return "ok";
    case SourceState::kHeld:
      return "held";
    case SourceState::kRefused:
      return "refused";
    case SourceState::kFailing:
      return "failing";
  }
  return "";
}

void PoolFeed::begin_with(std::shared_ptr<const std::vector<FoundBackend>> backends, int64_t unix_s,
                          FoundOrigin origin) {
  found_ = std::move(backends);
  found_unix_s_ = unix_s;
  origin_ = origin;
}

bool PoolFeed::note_answer(Answer answer, const Now &now, const Fits &fits) {
  failures_ = 0;
  last_answer_ = now.steady;
  waiting_ = std::move(answer);
  skipped_ = std::move(waiting_->skipped);
  return judge(now, fits);
}

bool PoolFeed::note_order(std::vector<FoundBackend> backends, const Now &now, const Fits &fits) {
  last_answer_ = now.steady;
  waiting_.reset();
  skipped_ = {};
  return take(std::move(backends), now, fits);
}

void PoolFeed::note_failure(const std::string &problem, const Now &now) {
  if (failures_++ == 0) failing_since_ = now.steady;
  gate_.forget();
  waiting_.reset();
  review_at_.reset();
  state_ = SourceState::kFailing;
  problem_ = problem;
}

bool PoolFeed::review(const Now &now, const Fits &fits) { return waiting_ && judge(now, fits); }

bool PoolFeed::judge(const Now &now, const Fits &fits) {
  review_at_.reset();
  const AnswerGate::Verdict verdict = gate_.judge(*found_, waiting_->backends, spec_, now.steady);
  if (verdict.decision == AnswerGate::Decision::kTake) {
    std::vector<FoundBackend> backends = std::move(waiting_->backends);
    waiting_.reset();
    return take(std::move(backends), now, fits);
  }
  problem_ = verdict.text;
  state_ = SourceState::kRefused;
  if (verdict.decision == AnswerGate::Decision::kHold) {
    state_ = SourceState::kHeld;
    review_at_ = verdict.until;
  }
  return false;
}

bool PoolFeed::take(std::vector<FoundBackend> backends, const Now &now, const Fits &fits) {
  review_at_.reset();
  const bool same = backends == *found_;
  SkippedEntries left_out;
  if (!same) {
    if (const Status fitting = fits(backends, &left_out); !fitting.ok()) {
      state_ = SourceState::kRefused;
      problem_ = fmt::format("gave {}: {}", count_text(backends.size()), fitting.error().message);
      waiting_ = Answer{std::move(backends), {}};
      return false;
    }
    left_out_ = std::move(left_out);
    found_ = std::make_shared<const std::vector<FoundBackend>>(std::move(backends));
  }
  found_unix_s_ = now.unix_s;
  origin_ = FoundOrigin::kSource;
  state_ = SourceState::kOk;
  problem_.clear();
  return !same;
}

// "5 backends of 2026-11-21 12:01:07 UTC are kept", "5 backends that the configuration had before are kept".
std::string PoolFeed::kept_text() const {
  if (found_->empty()) return "nothing is known from before";
  const char *verb = found_->size() == 1 ? "is" : "are";
  if (origin_ == FoundOrigin::kConfiguration)
    return fmt::format("{} that the configuration had before {} kept", count_text(found_->size()), verb);
  return fmt::format("{} of {:%Y-%m-%d %H:%M:%S} UTC {} kept", count_text(found_->size()),
                     fmt::gmtime(static_cast<std::time_t>(found_unix_s_)), verb);
}

std::string PoolFeed::text(Clock::time_point now) const {
  const std::string next =
      next_try_ ? fmt::format("; next try in {} s", whole_seconds(*next_try_ - now)) : std::string();
  const std::string tail = list_text(skipped_, "skipped") + list_text(left_out_, "left out");
  switch (state_) {
    case SourceState::kAsked:
      return fmt::format("{}; {}{}",
                         std::holds_alternative<model::RegistrationSource>(spec_.kind)
                             ? "nobody was heard of yet"
                             : "no answer yet",
                         kept_text(), tail);
    case SourceState::kOk:
      return fmt::format("{}, said {} s ago{}", count_text(found_->size()),
                         (now - last_answer_.value_or(now)) / std::chrono::seconds(1), tail);
    case SourceState::kHeld:
      return fmt::format("the answer {}; it is taken in {} s if it stays so, meanwhile {}{}", problem_,
                         whole_seconds(review_at_.value_or(now) - now), kept_text(), tail);
    case SourceState::kRefused:
      return fmt::format("the source {}; {}{}", problem_, kept_text(), tail);
    case SourceState::kFailing:
      return fmt::format("{}; failing for {} s; {}{}{}", problem_,
                         (now - failing_since_) / std::chrono::seconds(1), kept_text(), next, tail);
  }
  return "";
}

SourceReport PoolFeed::report(Clock::time_point now) const {
  using std::chrono::milliseconds;
  SourceReport report;
  report.pool = pool_;
  report.type = model::source_kind_name(spec_.kind);
  report.source = model::source_text(spec_.kind);
  report.state = state_;
  report.text = text(now);
  report.backends = found_->size();
  SkippedEntries unused = skipped_;
  unused.add(left_out_);
  report.skipped = unused.first();
  report.skipped_count = unused.count();
  if (last_answer_) report.last_answer_age = std::chrono::duration_cast<milliseconds>(now - *last_answer_);
  if (next_try_) {
    report.next_try = std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(*next_try_ - now));
  }
  report.failures = failures_;
  return report;
}

}  // namespace sluice
