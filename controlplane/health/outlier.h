// Passive health: which backends of a pool are taken out because their clients get nowhere, and how they come
// back. Pure: counts and time come in, states and words come out, so that a table of cases can hold it.
//
//   serving   `consecutive` failures without progress, or too high a rate    -> ejected, if the ceiling
//   allows ejected   its time is over, or no other backend of the pool serves       -> probing probing
//   `probes` connections have gone on                              -> serving
//             one failure                                                    -> ejected, for twice as long
//
// Each ejection lasts twice as long as the one before. Having served for as long as its last ejection would
// take, a backend's next one is half as long again.
#ifndef SLUICE_CONTROLPLANE_HEALTH_OUTLIER_H
#define SLUICE_CONTROLPLANE_HEALTH_OUTLIER_H

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/model/passive_health.h"

namespace sluice {

/// What the dataplane has counted of one backend until now (BackendCounters in dataplane/abi/counters.h).
struct PassiveCounts {
  uint64_t opens = 0;
  uint64_t progresses = 0;
  uint64_t repeated_opens = 0;
  uint64_t resets = 0;
  uint64_t unreachables = 0;

  bool operator==(const PassiveCounts &) const = default;
};

enum class OutlierState { kServing, kEjected, kProbing };

using OutlierTime = std::chrono::steady_clock::time_point;

/// One backend by itself: its counts, and what they say.
class OutlierBackend {
 public:
  explicit OutlierBackend(uint32_t identifier) : identifier_(identifier) {}

  /// Takes the next counts, at intervals of about 100 ms. Counts that have gone down begin anew.
  void take(const model::PassiveHealth &config, OutlierTime now, const PassiveCounts &counts);

  /// Why it is to be ejected, in words; nothing if it is not. Of a serving or a probing one.
  std::optional<std::string> complaint(const model::PassiveHealth &config) const;

  void eject(const model::PassiveHealth &config, OutlierTime now, std::string why);
  void probe(OutlierTime now);
  void serve(OutlierTime now);
  /// Forgets what it has counted, and nothing else.
  void begin_anew();
  /// Whether the time of an ejection is over.
  bool is_due(OutlierTime now) const { return state_ == OutlierState::kEjected && now >= until_; }
  /// Whether a half-open one is to serve again: enough connections went on, or nothing was wrong for as long
  /// as its ejection and the window took. It may get no connection that can be told of (UDP, no slot).
  bool has_passed(const model::PassiveHealth &config, OutlierTime now) const;

  OutlierState state() const { return state_; }
  /// Since the state began.
  uint64_t progresses() const { return progresses_; }
  uint32_t identifier() const { return identifier_; }
  /// "5 connections in a row made no progress; tried again in 25 s (2nd time)", or why it is not ejected
  /// though there is a complaint. Empty while there is nothing to say.
  std::string text(const model::PassiveHealth &config, OutlierTime now) const;

  /// Notes why it is not ejected; empty: there is no complaint. False if that was noted before.
  bool note_spared(std::string why);

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

  uint64_t newly_unanswered(OutlierTime now, const PassiveCounts &delta, const PassiveCounts &counts);
  Part *current_part(const model::PassiveHealth &config, OutlierTime now);
  void forget_slowly(const model::PassiveHealth &config, OutlierTime now);
  std::optional<std::string> rate_complaint(const model::PassiveHealth &config) const;

  OutlierState state_ = OutlierState::kServing;
  std::optional<PassiveCounts> last_;  // nothing before the first
  uint32_t identifier_;                // whose counts they are
  Failures run_{};                     // since the last progress
  OutlierTime failed_at_{};            // when one of them was counted last
  OutlierTime probing_since_{};
  uint64_t progresses_ = 0;  // since the state began
  std::array<Opens, kOpensKept> opens_{};
  size_t opens_taken_ = 0;
  uint64_t opens_answered_ = 0;  // opens until the last sign of an answer
  uint64_t unanswered_ = 0;      // of those after it, a second old
  std::array<Part, kParts> parts_{};
  int64_t part_ = 0;           // number of the current one
  unsigned ejections_ = 0;     // in a row, that the next one's length follows from
  OutlierTime until_{};        // of the ejection
  OutlierTime quiet_since_{};  // of serving
  std::string why_;            // of the last ejection
  std::string spared_;         // why there is none now
};

/// What happened to a backend, for the log.
struct OutlierEvent {
  enum class Kind { kEjected, kSpared, kProbing, kReturned };
  std::string backend;
  Kind kind = Kind::kEjected;
  std::string text;  // what is logged, without the backend's name
};

/// The passive health of one pool.
class OutlierPool {
 public:
  struct Member {
    std::string name;
    uint32_t identifier = 0;  // with another one it is another backend
    PassiveCounts counts;
    bool serves = false;  // takes new connections but for what this decides
  };

  /// Looks at all members, each with its counts until now. Who is no longer among them is forgotten.
  std::vector<OutlierEvent> observe(const model::PassiveHealth &config, OutlierTime now,
                                    std::span<const Member> members);

  OutlierState state(const std::string &backend) const;
  /// In words; empty when there is nothing to say.
  std::string text(const model::PassiveHealth &config, const std::string &backend, OutlierTime now) const;

 private:
  /// How many of the backends that serve are out, or half, and may be.
  struct Share {
    size_t serving = 0;
    size_t out = 0;
    size_t ceiling = 0;
  };
  using Events = std::vector<OutlierEvent>;

  Share take_counts(const model::PassiveHealth &config, OutlierTime now, std::span<const Member> members);
  void judge(const model::PassiveHealth &config, OutlierTime now, const Member &member, Share *share,
             Events *events);

  std::map<std::string, OutlierBackend> backends_;
};

}  // namespace sluice

#endif
