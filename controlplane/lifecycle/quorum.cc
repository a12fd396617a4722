#include "controlplane/lifecycle/quorum.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "controlplane/lifecycle/serving_state.h"

namespace sluice {

PoolCount count_serving(const model::Pool &pool, const model::ObservedState &observed) {
  PoolCount count;
  for (const model::BackendSpec &backend : pool.backends) {
    const ServingState state = serving_state_of(pool, backend, observed);
    const StateMeaning &meaning = meaning_of(state);
    count.unknown += state == ServingState::kUnknown ? 1 : 0;
    count.wanted += meaning.is_wanted ? 1 : 0;
    count.serving += meaning.takes_new ? 1 : 0;
  }
  return count;
}

size_t needed(const model::QuorumThreshold &threshold, size_t wanted) {
  if (!threshold.is_percent) return threshold.number;
  return std::max<size_t>(1, (wanted * threshold.number + 99) / 100);
}

size_t needed(const model::Quorum &quorum, const PoolCount &count, bool was_below) {
  if (was_below) return needed(quorum.recover, count.wanted);
  return needed(quorum.min, count.wanted - count.unknown);
}

bool is_below_quorum(const model::Quorum &quorum, const PoolCount &count, bool was_below) {
  return count.serving < needed(quorum, count, was_below);
}

void update_quorums(const model::DesiredState &desired, model::ObservedState *observed) {
  std::unordered_map<std::string_view, const model::Pool *> pools;
  std::unordered_map<std::string_view, PoolCount> counts;
  std::set<std::string> below;
  for (const model::Service &service : desired.services) {
    if (!service.quorum) continue;
    if (pools.empty()) {
      for (const model::Pool &pool : desired.pools) pools.emplace(pool.name, &pool);
    }
    const auto [count, is_new] = counts.emplace(service.pool, PoolCount{});
    const auto pool = pools.find(service.pool);
    if (is_new && pool != pools.end()) count->second = count_serving(*pool->second, *observed);
    const bool was_below = observed->below_quorum.contains(service.name);
    if (is_below_quorum(*service.quorum, count->second, was_below)) below.insert(service.name);
  }
  observed->below_quorum = std::move(below);
}

std::string quorum_text(const model::Quorum &quorum, bool is_below) {
  if (!is_below) return "enough backends again: served as usual";
  const std::string too_few = "too few backends take new connections: ";
  switch (quorum.action) {
    case model::QuorumAction::kServeAll:
      return too_few + "all of them are served, good or bad";
    case model::QuorumAction::kBackupPool:
      return too_few + "served by backup pool " + quorum.backup_pool;
    case model::QuorumAction::kWithdraw:
      break;
  }
  return too_few + "withdrawn";
}

}  // namespace sluice
