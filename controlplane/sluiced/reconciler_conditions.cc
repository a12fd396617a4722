// What time makes of backends: slow starts, holds and drains go on, connections are counted, quorums are
// watched.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "controlplane/lifecycle/quorum.h"
#include "controlplane/publish/counter_reader.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds kCountInterval{500};
constexpr std::chrono::seconds kClockStep{2};  // less is no step: clocks are steered all the time

// What a snapshot says of a backend, as far as its condition decides it.
struct Effect {
  ServingState state;
  uint8_t ramp_step;
  bool closed;

  bool operator==(const Effect &) const = default;
};

Effect effect_of(const Member &member, const model::BackendCondition &condition) {
  return {serving_state(standing_of(member.pool, member.backend, member.order, condition)),
          ramp_step_of(condition), condition.drain && condition.drain->deadline_passed};
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

// Notes where each backend of desired_ is, and whose condition time alone changes.
void Reconciler::note_members() {
  places_.clear();
  restless_.clear();
  watched_identifiers_.reset();  // whom to watch is to be seen anew
  for (size_t i = 0; i < desired_.pools.size(); i++) {
    const model::Pool &pool = desired_.pools[i];
    for (size_t j = 0; j < pool.backends.size(); j++) {
      model::BackendKey key{pool.name, pool.backends[j].name};
      if (is_restless(observed_.condition_of(key))) restless_.insert(key);
      places_.emplace(std::move(key), Place{i, j});
    }
  }
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

// Brings one backend's condition up to now; notes it when the snapshot must change.
void Reconciler::settle(const model::BackendKey &key) {
  const std::optional<Member> member = find_member(key);
  if (!member) return;
  model::BackendCondition &condition = observed_.backends[key];
  const bool was_over = standing_of(member->pool, member->backend, member->order, condition).drain_over;
  const Effect before = effect_of(*member, condition);
  const bool was_serving = condition.serving;
  advance(*member, clock_.now(), connections_of(key), &condition);
  if (effect_of(*member, condition) != before || condition.serving != was_serving) noted_ = true;
  if (is_restless(condition)) {
    restless_.insert(key);
  } else {
    restless_.erase(key);
  }
  if (!was_over && condition.drain &&
      standing_of(member->pool, member->backend, member->order, condition).drain_over) {
    log_drained(key, *condition.drain);
  }
}

void Reconciler::note_clock() {
  const std::chrono::seconds ahead = clock_.host_ahead();
  if (std::chrono::abs(ahead - clock_step_) < kClockStep) return;
  spdlog::warn("the host's clock was set by {} s; deadlines and graces go on by the one of before",
               (ahead - clock_step_).count());
  clock_step_ = ahead;
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
  const bool is_drained = std::ranges::any_of(restless_, [this](const model::BackendKey &key) {
    return observed_.condition_of(key).drain.has_value();
  });
  if (!is_drained) totals_.clear();
  if (!is_drained || now < next_count_) return;
  next_count_ = now + kCountInterval;
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
