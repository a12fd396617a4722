// What is known of one pool's source: what it said, what is used of it, and what the operator is told.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_POOL_FEED_H
#define SLUICE_CONTROLPLANE_DISCOVERY_POOL_FEED_H

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/discovery/answer_gate.h"
#include "controlplane/discovery/found.h"
#include "controlplane/model/discovery.h"
#include "dataplane/abi/result.h"

namespace sluice {

enum class SourceState : uint8_t {
  kAsked,    // for the first time, and has not answered yet
  kOk,       // what it said last is used
  kHeld,     // what it said last takes much away: it has to stand for a while
  kRefused,  // what it said last cannot be used
  kFailing,  // it does not answer
};

/// "asked", "ok", "held", "refused", "failing".
const char *source_state_name(SourceState state);

/// Whose list is in use: what a source said, or what the configuration had before the pool had a source.
enum class FoundOrigin : uint8_t { kSource, kConfiguration };

struct SourceReport {
  std::string pool;
  std::string type;    // "dns"
  std::string source;  // what is asked: "dns web.example (srv)"
  SourceState state = SourceState::kAsked;
  std::string text;                  // the state and what follows from it, in words
  size_t backends = 0;               // found ones in use
  std::vector<std::string> skipped;  // entries that cannot be used, in words; the first of them
  size_t skipped_count = 0;
  std::optional<std::chrono::milliseconds> last_answer_age;  // nothing: none since sluiced started
  std::optional<std::chrono::milliseconds> next_try;         // nothing: the source tells of changes itself
  uint64_t failures = 0;                                     // in a row
};

/// Both clocks of one moment: the first decides, the second is only shown.
struct Now {
  std::chrono::steady_clock::time_point steady;
  int64_t unix_s = 0;
};

/// Pure: clocks are parameters.
class PoolFeed {
 public:
  using Clock = std::chrono::steady_clock;
  /// Whether the whole configuration has room for these backends; what cannot be used beside it is added to
  /// the list.
  using Fits = std::function<Status(const std::vector<FoundBackend> &backends, SkippedEntries *left_out)>;

  PoolFeed(std::string pool, model::DiscoverySpec spec) : pool_(std::move(pool)), spec_(std::move(spec)) {}

  /// What was there before: found by a sluiced that has ended, or by another source of the pool, or
  /// configured. `unix_s`: since when.
  void begin_with(std::shared_ptr<const std::vector<FoundBackend>> backends, int64_t unix_s,
                  FoundOrigin origin);

  /// The source has answered: `answer` is tidied(). True when found() has changed by that.
  bool note_answer(Answer answer, const Now &now, const Fits &fits);
  /// The same without the protection against loss: what was asked for name by name.
  bool note_order(std::vector<FoundBackend> backends, const Now &now, const Fits &fits);
  /// What is used was said again.
  void note_heard(Clock::time_point now) { last_answer_ = now; }
  /// The source has not answered, and why.
  void note_failure(const std::string &problem, const Now &now);
  /// Looks again at an answer that was held or refused: time has passed, or the limits are others. True when
  /// found() has changed.
  bool review(const Now &now, const Fits &fits);
  /// The pool's limits or VIPs are others: says again what cannot be used of found().
  void set_left_out(SkippedEntries left_out) { left_out_ = std::move(left_out); }
  /// When the source is asked next; nothing: it is being asked, or tells of changes itself.
  void set_next_try(std::optional<Clock::time_point> next_try) { next_try_ = next_try; }

  const std::string &pool() const { return pool_; }
  const model::DiscoverySpec &spec() const { return spec_; }
  SourceState state() const { return state_; }
  uint64_t failures() const { return failures_; }
  const std::shared_ptr<const std::vector<FoundBackend>> &found() const { return found_; }
  /// When the source last said what is used.
  int64_t found_unix_s() const { return found_unix_s_; }
  FoundOrigin origin() const { return origin_; }
  /// When review() may change something by itself.
  std::optional<Clock::time_point> review_at() const { return review_at_; }

  SourceReport report(Clock::time_point now) const;

 private:
  bool judge(const Now &now, const Fits &fits);
  bool take(std::vector<FoundBackend> backends, const Now &now, const Fits &fits);
  std::string text(Clock::time_point now) const;
  std::string kept_text() const;

  std::string pool_;
  model::DiscoverySpec spec_;
  AnswerGate gate_;
  SourceState state_ = SourceState::kAsked;
  std::shared_ptr<const std::vector<FoundBackend>> found_ =
      std::make_shared<const std::vector<FoundBackend>>();
  int64_t found_unix_s_ = 0;
  FoundOrigin origin_ = FoundOrigin::kSource;  // of found_
  std::optional<Answer> waiting_;              // held or refused
  std::string problem_;                        // of kHeld, kRefused and kFailing
  SkippedEntries skipped_;
  SkippedEntries left_out_;  // of found_, by the configuration
  uint64_t failures_ = 0;
  Clock::time_point failing_since_{};
  std::optional<Clock::time_point> last_answer_;
  std::optional<Clock::time_point> next_try_;
  std::optional<Clock::time_point> review_at_;
};

}  // namespace sluice

#endif
