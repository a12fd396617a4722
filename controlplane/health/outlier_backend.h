// Passive health of one backend: its counts, what they say of it, and how long it has been out. Who of a pool
// is ejected is outlier.h's to decide.
#ifndef SLUICE_CONTROLPLANE_HEALTH_OUTLIER_BACKEND_H
#define SLUICE_CONTROLPLANE_HEALTH_OUTLIER_BACKEND_H

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <string>

#include "controlplane/model/passive_health.h"

namespace sluice {

/// What the dataplane has counted of one backend until now (BackendCounters in dataplane/abi/counters.h).
struct PassiveCounts {
  uint64_t opens = 0;
  uint64_t progresses = 0;
  uint64_t repeated_opens = 0;
  uint64_t resets = 0;
  uint64_t unreachables = 0;
  uint64_t packets = 0;  // forwarded to it

  bool operator==(const PassiveCounts &) const = default;
};

enum class OutlierState : uint8_t { kServing, kEjected, kProbing };

/// Why a backend is not ejected though there is a complaint.
enum class Spared : uint8_t { kNo, kAllFail, kNobodyElse, kCeiling };

using OutlierTime = std::chrono::steady_clock::time_point;

/// When all backends of a pool are looked at, and where in the window that is.
struct OutlierMoment {
  OutlierMoment(const model::PassiveHealth &config, OutlierTime time);

  OutlierTime now;
  int64_t part;  // number of the window's part
};

/// What speaks against a backend.
struct Complaint {
  enum class Kind : uint8_t { kNone, kRate, kRun };  // the worse the later

  Kind kind = Kind::kNone;
  model::PassiveSignal signal = model::PassiveSignal::kUnanswered;
  uint64_t failures = 0;
  uint64_t progresses = 0;  // beside them; none in a run
  OutlierTime since{};      // whose clients went on later did better

  /// Whether who gets packets and no such failure does better, too: of UDP there is no progress to see.
  bool is_refuted_by_silence() const { return signal == model::PassiveSignal::kUnreachable; }
  explicit operator bool() const { return kind != Kind::kNone; }
  /// "5 connections in a row made no progress".
  std::string text(const model::PassiveHealth &config) const;
};

/// A run without progress is worse than a rate, then what fails more of its connections, then more failures.
bool is_worse(const Complaint &one, const Complaint &other);

class OutlierBackend {
 public:
  /// Takes the next counts, at intervals of about 100 ms. Counts that have gone down begin anew.
  void take(const model::PassiveHealth &config, const OutlierMoment &moment, const PassiveCounts &counts) {
    if (rests_ && counts == last_) return;
    take_news(config, moment, counts);
  }

  /// Of a serving or a half-open one. What is older than the window is none any more.
  Complaint complaint(const model::PassiveHealth &config, OutlierTime now) const;
  /// Whether its clients got nowhere lately, and nobody has gone on since.
  bool fails(const model::PassiveHealth &config, OutlierTime now) const {
    return failed_at_ > progressed_at_ && now - failed_at_ <= config.window;
  }
  OutlierTime failed_at() const { return failed_at_; }
  /// When a connection of it was last seen to go on.
  OutlierTime progressed_at() const { return progressed_at_; }
  /// When packets were last forwarded to it without a failure in the whole window before; long ago if not.
  OutlierTime quiet_traffic_at(const model::PassiveHealth &config, OutlierTime now) const {
    return now - failed_at_ > config.window ? traffic_at_ : OutlierTime{};
  }
  /// Serving, with nothing to remember: unless its counts change there is nothing to say of it.
  bool rests() const { return rests_; }

  void eject(const model::PassiveHealth &config, OutlierTime now, const Complaint &why);
  void probe(OutlierTime now);
  void serve(OutlierTime now);
  /// Forgets what it has counted: it is down for another reason, and is not tried meanwhile.
  void stand_aside(OutlierTime now);
  /// Notes why it is not ejected. True if that is to be told: it is for another reason than before, or was
  /// not so for a whole window.
  bool spare(const model::PassiveHealth &config, OutlierTime now, Spared why, const Complaint &complaint);
  void end_sparing() { spared_ = Spared::kNo; }

  /// Whether the time of an ejection is over; while all fail none lasts longer than the first.
  bool is_due(OutlierTime now) const { return state_ == OutlierState::kEjected && now >= until_; }
  bool is_due_while_all_fail(const model::PassiveHealth &config, OutlierTime now) const {
    return state_ == OutlierState::kEjected && now >= ejected_at_ + config.ejection;
  }
  /// Whether a half-open one has shown that it serves.
  bool has_proof(const model::PassiveHealth &config) const { return progresses_ >= config.probes; }
  /// Whether a half-open one is to serve again: it has shown it, or nothing was wrong for as long as its
  /// ejection and the window took. It may get no connection that can be told of (UDP, no slot), or only such
  /// as clients reset.
  bool has_passed(const model::PassiveHealth &config, OutlierTime now) const;

  OutlierState state() const { return state_; }
  Spared spared() const { return spared_; }
  /// What was noted with spare().
  const Complaint &spared_for() const { return spared_for_; }
  /// Of an ejected or half-open one: "5 connections in a row made no progress; tried again in 25 s (2nd
  /// time)".
  std::string text(const model::PassiveHealth &config, OutlierTime now) const;

 private:
  using Failures = std::array<uint64_t, model::kPassiveSignals>;  // by PassiveSignal

  struct Part {  // of the window
    uint64_t progresses = 0;
    Failures failures{};
  };
  struct Opens {
    OutlierTime at;
    uint64_t opens = 0;  // until then
  };
  static constexpr size_t kParts = 10;
  static constexpr size_t kOpensKept = 16;  // more than a second's

  friend struct OutlierMoment;

  void take_news(const model::PassiveHealth &config, const OutlierMoment &moment,
                 const PassiveCounts &counts);
  void begin_anew();
  uint64_t newly_unanswered(OutlierTime now, const PassiveCounts &delta, const PassiveCounts &counts);
  void count_run(const model::PassiveHealth &config, OutlierTime now, uint64_t progresses,
                 const Failures &failures);
  Part *current_part(int64_t number);
  void forget_slowly(const model::PassiveHealth &config, OutlierTime now);
  bool has_nothing_to_remember(const model::PassiveHealth &config, OutlierTime now) const;
  Complaint rate_complaint(const model::PassiveHealth &config, OutlierTime now) const;

  // What every look reads comes first.
  PassiveCounts last_;
  bool rests_ = false;
  bool is_known_ = false;  // last_ is something
  OutlierState state_ = OutlierState::kServing;
  Spared spared_ = Spared::kNo;
  unsigned ejections_ = 0;       // in a row, that the next one's length follows from
  OutlierTime failed_at_{};      // when a failure was counted last
  OutlierTime progressed_at_{};  // when a connection last went on
  OutlierTime traffic_at_{};     // when packets were last forwarded to it
  Failures run_{};               // since the last progress
  OutlierTime run_began_{};
  uint64_t progresses_ = 0;      // of a half-open one, since its last failure
  uint64_t opens_answered_ = 0;  // opens until the last sign of an answer
  uint64_t unanswered_ = 0;      // of those after it, a second old
  size_t opens_taken_ = 0;
  int64_t part_ = 0;  // number of the current one
  OutlierTime probing_since_{};
  OutlierTime ejected_at_{};
  OutlierTime until_{};        // of the ejection
  OutlierTime quiet_since_{};  // of serving
  OutlierTime spared_at_{};    // last
  Spared told_ = Spared::kNo;  // why it was spared then
  Complaint why_;              // of the last ejection
  Complaint spared_for_;
  std::array<Opens, kOpensKept> opens_{};
  std::array<Part, kParts> parts_{};
};

}  // namespace sluice

#endif
