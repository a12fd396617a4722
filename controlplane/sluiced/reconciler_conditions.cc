// What checks and time make of backends: slow starts, holds and drains go on, connections are counted,
// quorums are watched.
#include <spdlog/spdlog.h>

#include "controlplane/compile/effective_backends.h"
#include "controlplane/lifecycle/quorum.h"
#include "controlplane/publish/counter_reader.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds kCountInterval{500};
constexpr std::chrono::seconds kIdleCountInterval{5};  // while all that are drained have no connections
constexpr std::chrono::seconds kClockStep{2};          // less is no step: clocks are steered all the time

// What the snapshot and the quorums go by.
struct Effect {
  BackendState state;
  uint8_t ramp_step;
  bool is_wanted;
  bool is_unknown;

  bool operator==(const Effect &) const = default;
};

Effect effect_of(const Member &member, const model::BackendCondition &condition) {
  const EffectiveBackend effective = effective_backend(member.pool, member.backend, member.order, condition);
  return {effective.state, effective.ramp_step, meaning_of(effective.serving).is_wanted,
          effective.serving == ServingState::kUnknown};
}

void log_drained(const model::BackendKey &key, const model::DrainProgress &drain) {
  if (!drain.deadline_passed) {
    spdlog::info("backend {} is drained: no connections are left", key.text());
  } else if (drain.connections_left) {
    spdlog::warn("backend {}: the deadline of its drain has passed, connections given up: {}", key.text(),
                 *drain.connections_left);
  } else {
    spdlog::warn("backend {}: the deadline of its drain has passed; how many connections it had is not known",
                 key.text());
  }
}

}  // namespace

std::optional<Member> Reconciler::find_member(const model::BackendKey &key) const {
  const auto place = places_.find(key);
  if (place == places_.end()) return std::nullopt;
  const model::Pool &pool = desired_.pools[place->second.pool];
  return Member{pool, pool.backends[place->second.backend], observed_.order_of(key)};
}

// Notes where each backend of desired_ is, whose condition time alone changes, and whose clients to watch.
void Reconciler::note_members() {
  places_.clear();
  restless_.clear();
  for (size_t i = 0; i < desired_.pools.size(); i++) {
    const model::Pool &pool = desired_.pools[i];
    for (size_t j = 0; j < pool.backends.size(); j++) {
      model::BackendKey key{pool.name, pool.backends[j].name};
      if (is_restless(observed_.condition_of(key))) restless_.insert(key);
      places_.emplace(std::move(key), Place{i, j});
    }
  }
  watch_clients();
}

void Reconciler::settle_all(const model::DesiredState &desired, model::ObservedState *observed) const {
  const Moment now = clock_.now();
  for (const model::Pool &pool : desired.pools) {
    for (const model::BackendSpec &backend : pool.backends) {
      const model::BackendKey key{pool.name, backend.name};
      advance({pool, backend, observed->order_of(key)}, now, connections_of(key), &observed->backends[key]);
    }
  }
  update_quorums(desired, observed);
}

void Reconciler::note_health(const model::BackendKey &key, const Address &address, model::Health health,
                             const std::string &reason) {
  const std::optional<Member> member = find_member(key);
  if (!member || member->backend.address != address) return;  // reloaded while the change was on its way
  if (member->order != nullptr && member->order->kind == model::OrderKind::kMaintenance) return;
  model::BackendCondition &condition = observed_.backends[key];
  const model::Health before = condition.health;
  if (before == health) return;
  const Effect effect_before = effect_of(*member, condition);
  sluice::note_health(*member, health, clock_.now().steady, &condition);
  if (effect_of(*member, condition) != effect_before) noted_ = true;
  const bool is_bad = health == model::Health::kDown || health == model::Health::kFailing;
  spdlog::log(is_bad ? spdlog::level::warn : spdlog::level::info, "backend {} is {}: {}", key.text(),
              health_name(health), reason);
  if (condition.held_until && before == model::Health::kDown) {
    const model::FlapDamping &damping = *member->pool.flap_damping;
    spdlog::warn("backend {} went down {} times within {} s: held down until it has been well for {} s",
                 key.text(), condition.held_for, damping.window.count(), damping.hold.count());
  }
  settle(key);
}

// Brings one backend's condition up to now; notes it when the snapshot must change.
void Reconciler::settle(const model::BackendKey &key) {
  const std::optional<Member> member = find_member(key);
  if (!member) return;
  model::BackendCondition &condition = observed_.backends[key];
  const Effect before = effect_of(*member, condition);
  advance(*member, clock_.now(), connections_of(key), &condition);
  if (effect_of(*member, condition) != before) noted_ = true;
  note_standing(key);
  if (is_restless(condition)) {
    restless_.insert(key);
  } else {
    restless_.erase(key);
  }
  if (!condition.drain || condition.drain->is_told || !is_over(*condition.drain)) return;
  condition.drain->is_told = true;
  log_drained(key, *condition.drain);
}

void Reconciler::note_clock() {
  const std::chrono::seconds step = clock_.host_ahead();
  if (std::chrono::abs(step) < kClockStep) return;
  spdlog::warn("the host's clock was set by {} s; deadlines and graces go on as if it were not",
               step.count());
  clock_step_ += step;
  clock_.follow_host();
  const auto moved = [step](const std::shared_ptr<const model::Identifiers> &ids) {
    auto later = std::make_shared<model::Identifiers>(*ids);
    later->follow_clock(step.count());
    return later;
  };
  const bool is_same = latest_identifiers_ == identifiers_;
  identifiers_ = moved(identifiers_);
  latest_identifiers_ = is_same ? identifiers_ : moved(latest_identifiers_);
  for (auto &[key, order] : observed_.orders) order.since_unix_s += step.count();
  if (fallback_) {
    for (auto &[key, order] : fallback_->orders) order.since_unix_s += step.count();
  }
  for (auto &[key, condition] : observed_.backends) {
    if (condition.drain) condition.drain->began_unix_s += step.count();
  }
  if (!observed_.orders.empty()) keep_orders(observed_.orders);
  kept_holds_.clear();  // stored by the clock of before
  noted_ = true;
}

void Reconciler::settle_restless() {
  count_connections();
  const std::vector<model::BackendKey> keys(restless_.begin(), restless_.end());
  for (const model::BackendKey &key : keys) settle(key);
}

// Of a backend's identifier; nothing while the dataplane cannot be asked.
std::optional<uint64_t> Reconciler::connections_of(const model::BackendKey &key) const {
  if (!link_.connected()) return std::nullopt;
  const std::optional<uint16_t> id = identifiers_->backend_id(key);
  if (!id || *id >= totals_.size()) return std::nullopt;
  return totals_[*id].active_connections;
}

// Only while somebody is drained: it goes over every worker's counters.
void Reconciler::count_connections() {
  const Clock::time_point now = Clock::now();
  bool is_drained = false;
  bool is_awaited = false;
  for (const model::BackendKey &key : restless_) {
    const std::optional<model::DrainProgress> &drain = observed_.condition_of(key).drain;
    is_drained = is_drained || drain.has_value();
    is_awaited = is_awaited || (drain && !is_over(*drain));
  }
  if (!is_drained) totals_.clear();
  if (!is_drained || now < next_count_) return;
  next_count_ = now + (is_awaited ? kCountInterval : kIdleCountInterval);
  const auto region = link_.counters();
  totals_ = region.ok() ? read_backends(*region.value()) : std::vector<BackendTotals>();
}

void Reconciler::log_quorums(const std::set<std::string> &below_before) const {
  for (const model::Service &service : desired_.services) {
    const bool was_below = below_before.contains(service.name);
    const bool is_below = observed_.below_quorum.contains(service.name);
    if (was_below == is_below || !service.quorum) continue;
    spdlog::log(is_below ? spdlog::level::warn : spdlog::level::info, "service {}: {}", service.name,
                quorum_text(*service.quorum, is_below));
  }
}

}  // namespace sluice
