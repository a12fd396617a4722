// Passive health: the dataplane's counts of what clients do are judged (health/outlier.h), and the judgement
// becomes part of the backends' conditions.
#include <utility>

#include <spdlog/spdlog.h>

#include "controlplane/publish/counter_reader.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

PassiveCounts passive_counts(const BackendTotals &totals) {
  return {.opens = totals.tcp_opens,
          .progresses = totals.tcp_progresses,
          .repeated_opens = totals.tcp_repeated_opens,
          .resets = totals.tcp_resets,
          .unreachables = totals.unreachables};
}

// Whether it takes new connections but for what its clients got.
bool would_serve(const model::Pool &pool, const model::BackendSpec &backend, const model::BackendKey &key,
                 const model::ObservedState &observed) {
  Standing standing = standing_of(pool, backend, observed.order_of(key), observed.condition_of(key));
  standing.ejected = false;
  return meaning_of(serving_state(standing)).takes_new;
}

void log_event(const model::BackendKey &key, const OutlierEvent &event) {
  switch (event.kind) {
    case OutlierEvent::Kind::kEjected:
      return spdlog::warn("backend {} is ejected: {}", key.text(), event.text);
    case OutlierEvent::Kind::kSpared:
      return spdlog::warn("backend {}: {}", key.text(), event.text);
    case OutlierEvent::Kind::kProbing:
      return spdlog::info("backend {} is tried again with few connections: {}", key.text(), event.text);
    case OutlierEvent::Kind::kReturned:
      return spdlog::info("backend {} is back: {}", key.text(), event.text);
  }
}

}  // namespace

void Reconciler::judge_clients() {
  if (watched_identifiers_ != identifiers_) watch_clients();
  if (watched_.empty()) return;
  const auto counters = link_.counters();
  if (!counters.ok()) return;  // nothing is seen, so nothing changes
  for (auto &[name, watched] : watched_) judge_pool(*counters.value(), &watched);
}

void Reconciler::judge_pool(const CounterView &counters, WatchedPool *watched) {
  const model::Pool &pool = desired_.pools[watched->place];
  for (size_t i = 0; i < pool.backends.size(); i++) {
    OutlierPool::Member &member = watched->members[i];
    member.counts = passive_counts(read_backend(counters, member.identifier));
    const bool is_known = member.identifier != 0;
    member.serves = is_known && would_serve(pool, pool.backends[i], {pool.name, member.name}, observed_);
  }
  const auto note = [&](const std::string &backend) {
    note_outlier({pool.name, backend}, watched->outliers.state(backend));
  };
  for (const OutlierEvent &event : watched->outliers.observe(*pool.passive, Clock::now(), watched->members)) {
    log_event({pool.name, event.backend}, event);
    note(event.backend);
  }
  if (!std::exchange(watched->is_new, false)) return;
  for (const OutlierPool::Member &member : watched->members) note(member.name);
}

// Whom to look at, by the configuration and the identifiers that are in force. What is known of a pool that
// stays stays known; what nobody watches any more is not ejected.
void Reconciler::watch_clients() {
  watched_identifiers_ = identifiers_;
  std::map<std::string, WatchedPool> before = std::exchange(watched_, {});
  for (size_t i = 0; i < desired_.pools.size(); i++) {
    const model::Pool &pool = desired_.pools[i];
    WatchedPool watched = std::move(before[pool.name]);
    watched.place = i;
    watched.is_new = true;
    watched.members.clear();
    for (const model::BackendSpec &backend : pool.backends) {
      const model::BackendKey key{pool.name, backend.name};
      watched.members.push_back(
          {.name = backend.name, .identifier = identifiers_->backend_id(key).value_or(0), .counts = {}});
      if (!pool.passive) note_outlier(key, OutlierState::kServing);
    }
    if (pool.passive) watched_.emplace(pool.name, std::move(watched));
  }
}

void Reconciler::note_outlier(const model::BackendKey &key, OutlierState state) {
  const auto found = observed_.backends.find(key);
  if (found == observed_.backends.end()) return;
  model::BackendCondition &condition = found->second;
  const bool ejected = state == OutlierState::kEjected;
  const bool probing = state == OutlierState::kProbing;
  if (condition.ejected == ejected && condition.probing == probing) return;
  condition.ejected = ejected;
  condition.probing = probing;
  noted_ = true;
  settle(key);
}

std::string Reconciler::passive_text(const model::BackendKey &key) const {
  const std::optional<Member> member = find_member(key);
  const auto watched = watched_.find(key.pool);
  if (!member || !member->pool.passive || watched == watched_.end()) return "";
  return watched->second.outliers.text(*member->pool.passive, key.name, Clock::now());
}

}  // namespace sluice
