#include "controlplane/discovery/answer_gate.h"

#include <algorithm>
#include <unordered_set>

#include <spdlog/fmt/fmt.h>

namespace sluice {

size_t count_lost(const std::vector<FoundBackend> &before, const std::vector<FoundBackend> &after) {
  std::unordered_set<Address, AddressHash> addresses;
  addresses.reserve(after.size());
  for (const FoundBackend &backend : after) addresses.insert(backend.address);
  return static_cast<size_t>(std::ranges::count_if(
      before, [&](const FoundBackend &backend) { return !addresses.contains(backend.address); }));
}

AnswerGate::Verdict AnswerGate::judge(const std::vector<FoundBackend> &current,
                                      const std::vector<FoundBackend> &answer,
                                      const model::DiscoverySpec &spec, Clock::time_point now) {
  if (answer.size() < spec.min_backends && answer.size() < current.size()) {
    losing_since_.reset();
    return {Decision::kRefuse,
            fmt::format("gave {} backends, fewer than min_backends, which is {}", answer.size(),
                        spec.min_backends),
            {}};
  }
  const size_t lost = count_lost(current, answer);
  if (lost * 100 <= current.size() * spec.max_lost_percent) {
    losing_since_.reset();
    return {};
  }
  if (!losing_since_) losing_since_ = now;
  const Clock::time_point until = *losing_since_ + spec.lost_hold;
  if (now >= until) {
    losing_since_.reset();
    return {};
  }
  return {Decision::kHold,
          fmt::format("takes {} of {} backends away at once, more than max_lost_percent, which is {}", lost,
                      current.size(), spec.max_lost_percent),
          until};
}

}  // namespace sluice
