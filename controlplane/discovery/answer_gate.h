// Whether an answer of a source is believed at once, later or not.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_ANSWER_GATE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_ANSWER_GATE_H

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"
#include "controlplane/model/discovery.h"

namespace sluice {

/// Pure: the clock is a parameter. One for each source.
class AnswerGate {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Decision { kTake, kHold, kRefuse };

  struct Verdict {
    Decision decision = Decision::kTake;
    std::string text;         // why it is not taken, in words
    Clock::time_point until;  // kHold: then it is taken, if it still stands
  };

  /// Refuses what has fewer than `min_backends` and fewer than `current`. Holds what takes more than
  /// `max_lost_percent` of `current` away, until such answers have come for `lost_hold` without one that
  /// does not.
  Verdict judge(const std::vector<FoundBackend> &current, const std::vector<FoundBackend> &answer,
                const model::DiscoverySpec &spec, Clock::time_point now);

  /// Nothing is known of the source now: what it said before stands no longer.
  void forget() { losing_since_.reset(); }

 private:
  std::optional<Clock::time_point> losing_since_;
};

/// How many addresses of `before` are not in `after`: one that has another name there is not lost.
size_t count_lost(const std::vector<FoundBackend> &before, const std::vector<FoundBackend> &after);

}  // namespace sluice

#endif
