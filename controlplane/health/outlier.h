// Passive health: which backends of a pool are taken out because their clients get nowhere, and how they come
// back. Pure: counts and time come in, states and words come out, so that a table of cases can hold it.
//
//   serving   `consecutive` failures without progress, or too high a rate,
//             while clients of others go on, and the ceiling allows          -> ejected
//   ejected   its time is over, or no other backend of the pool serves       -> half-open (probing)
//   probing   `probes` connections have gone on                              -> serving
//             one failure, while others serve                                -> ejected, for twice as long
//
// An outlier is one that does worse than others. So nobody is ejected while every backend that has traffic
// fails: a complaint counts only if some other backend's client has gone on since the failures began, or if
// no other has failed. Of UDP nobody sees a client go on: there it is packets without an ICMP error. Of those
// that are outliers at once the worst goes first (is_worse; then by name).
//
// Each ejection lasts twice as long as the one before. Having served for as long as its last ejection would
// take, a backend's next one is half as long again.
#ifndef SLUICE_CONTROLPLANE_HEALTH_OUTLIER_H
#define SLUICE_CONTROLPLANE_HEALTH_OUTLIER_H

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/health/outlier_backend.h"

namespace sluice {

/// What happened to a backend, or to the pool, for the log.
struct OutlierEvent {
  enum class Kind { kEjected, kSpared, kProbing, kReturned, kAllFail };
  size_t place = 0;  // of the member; meaningless with kAllFail, which is the pool's
  Kind kind = Kind::kEjected;
  std::string text;  // what is logged, without a name
};

/// The passive health of one pool.
class OutlierPool {
 public:
  struct Member {
    std::string name;
    uint32_t identifier = 0;  // with another one it is another backend
  };
  struct Sample {
    PassiveCounts counts;  // until now
    bool serves = false;   // takes new connections but for what this decides
  };

  /// Whom it is of from now on. What is known of one that was there before stays known.
  void set_members(std::vector<Member> members);
  const std::vector<Member> &members() const { return members_; }

  /// Looks at all members, of each of which there is a sample.
  std::vector<OutlierEvent> observe(const model::PassiveHealth &config, OutlierTime now,
                                    std::span<const Sample> samples);

  /// Instead of observe() while nothing can be seen: whose ejection is over serves again, since nobody could
  /// tell how it does half-open.
  std::vector<OutlierEvent> let_back(OutlierTime now);

  OutlierState state(size_t place) const { return backends_[place].state(); }
  /// In words; empty when there is nothing to say.
  std::string text(const model::PassiveHealth &config, size_t place, OutlierTime now) const;

 private:
  struct Complainer {
    size_t place;
    Complaint complaint;
  };
  /// What all of them together are like at one look.
  struct Tally {
    size_t counted = 0;             // who serves or is kept out: what the ceiling is a share of
    size_t out = 0;                 // of them, ejected or half-open
    size_t in_service = 0;          // serve, neither ejected nor half-open
    size_t failing = 0;             // serve or would, and their clients got nowhere lately
    size_t ceiling = 0;             // how many may be out
    bool all_fail = false;          // there is a complaint, and nobody to do better
    OutlierTime best{};             // when a client of one without a complaint went on last
    OutlierTime best_of_failing{};  // the same of those that fail in part
    OutlierTime quiet{};            // when one that has no failures got packets last
    std::vector<Complainer> complainers;
    std::vector<size_t> well;     // half-open or spared, without a complaint
    std::vector<size_t> ejected;  // at the beginning of the look

    void clear();  // and keeps the memory
  };
  using Events = std::vector<OutlierEvent>;

  void take_counts(const model::PassiveHealth &config, OutlierTime now, std::span<const Sample> samples);
  void tally_one(const model::PassiveHealth &config, OutlierTime now, size_t place, bool serves);
  void note_well(const model::PassiveHealth &config, OutlierTime now, Events *events);
  bool may_eject() const;
  void sort_complainers();
  void judge(const model::PassiveHealth &config, OutlierTime now, const Complainer &complainer,
             Events *events);
  bool others_do_better(const Complaint &complaint) const;
  bool is_recovering(const OutlierBackend &backend) const;
  Spared spared_for(const OutlierBackend &backend, const Complaint &complaint) const;
  void try_ejected(const model::PassiveHealth &config, OutlierTime now, std::span<const Sample> samples,
                   Events *events);
  void tell_if_all_fail(const model::PassiveHealth &config, OutlierTime now, Events *events);
  std::string spared_text(const model::PassiveHealth &config, const OutlierBackend &backend) const;

  std::vector<Member> members_;
  std::vector<OutlierBackend> backends_;  // by place in members_
  Tally tally_;                           // of the last look
  std::optional<OutlierTime> all_fail_since_;
  std::optional<OutlierTime> all_fail_told_;  // when it was so last, after it was told
};

}  // namespace sluice

#endif
