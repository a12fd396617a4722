#include "controlplane/sluiced/carry_over.h"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>

#include "controlplane/model/identifiers.h"

namespace sluice {

namespace {

using Addresses = std::unordered_map<model::BackendKey, Address>;

// Every backend of a configuration, by key.
Addresses addresses_of(const model::DesiredState &desired) {
  Addresses addresses;
  for (const model::Pool &pool : desired.pools) {
    for (const model::BackendSpec &backend : pool.backends) {
      addresses.emplace(model::BackendKey{pool.name, backend.name}, backend.address);
    }
  }
  return addresses;
}

// The backends of a snapshot that are still configured, by key.
Addresses addresses_of(const SnapshotView &view) {
  Addresses addresses;
  for (const Backend &backend : view.backends()) {
    if (backend.state == kBackendUnused || backend.removed != 0) continue;
    addresses.emplace(
        model::BackendKey{std::string(view.text(backend.pool)), std::string(view.text(backend.name))},
        backend.address);
  }
  return addresses;
}

bool has(const Addresses &addresses, const model::BackendKey &key, const Address &address) {
  const auto found = addresses.find(key);
  return found != addresses.end() && found->second == address;
}

// The backends of one pool of before, by address; made when it is first asked for.
class PoolBefore {
 public:
  PoolBefore(const model::DesiredState &before, const std::string &pool) : before_(before), pool_(pool) {}

  // The one that `backend` was under another name: at the same address, asked by checks at the same place.
  const model::BackendSpec *namesake(const model::BackendSpec &backend) {
    if (!made_) make();
    const auto found = by_address_.find(backend.address);
    if (found == by_address_.end()) return nullptr;
    const model::BackendSpec &was = *found->second;
    const bool is_same =
        was.checked_address() == backend.checked_address() && was.check_port == backend.check_port;
    return is_same ? &was : nullptr;
  }

 private:
  void make() {
    made_ = true;
    const auto pool = std::ranges::find(before_.pools, pool_, &model::Pool::name);
    if (pool == before_.pools.end()) return;
    for (const model::BackendSpec &backend : pool->backends) by_address_.emplace(backend.address, &backend);
  }

  const model::DesiredState &before_;
  const std::string &pool_;
  bool made_ = false;
  std::map<Address, const model::BackendSpec *> by_address_;
};

// What is known of a backend and does not depend on what it is called. A drain's progress begins anew.
model::BackendCondition renamed(const model::BackendCondition &was) {
  model::BackendCondition condition = was;
  condition.drain.reset();
  condition.drained_since_unix_s.reset();
  condition.ejected = false;
  condition.probing = false;
  return condition;
}

// What only the snapshot knows.
void add_missing(const model::BackendCondition &from, model::BackendCondition *condition) {
  if (condition->health == model::Health::kUnknown) condition->health = from.health;
  if (!condition->drain) condition->drained_since_unix_s = from.drained_since_unix_s;
  if (condition->serving) return;
  condition->serving = from.serving;
  condition->ramp_step = from.ramp_step;
}

}  // namespace

model::ObservedState carry_over(const model::DesiredState &before, const model::ObservedState &observed,
                                const SnapshotView *in_force, const model::DesiredState &next) {
  const Addresses known = addresses_of(before);
  const Addresses forwarded = in_force == nullptr ? Addresses() : addresses_of(*in_force);
  const model::ObservedState recovered =
      in_force == nullptr ? model::ObservedState() : model::recover_observed_state(*in_force);
  model::ObservedState carried;
  for (const model::Pool &pool : next.pools) {
    PoolBefore pool_before(before, pool.name);
    for (const model::BackendSpec &backend : pool.backends) {
      const model::BackendKey key{pool.name, backend.name};
      const model::OperatorOrder *order = observed.order_of(key);
      model::BackendCondition condition;
      if (has(known, key, backend.address)) {
        condition = observed.condition_of(key);
      } else if (const model::BackendSpec *was = pool_before.namesake(backend); was != nullptr) {
        const model::BackendKey before_key{pool.name, was->name};
        condition = renamed(observed.condition_of(before_key));
        if (order == nullptr) order = observed.order_of(before_key);
      }
      if (order != nullptr) carried.orders.emplace(key, *order);
      const bool is_checked = order == nullptr || order->kind != model::OrderKind::kMaintenance;
      if (is_checked && has(forwarded, key, backend.address))
        add_missing(recovered.condition_of(key), &condition);
      if (!pool.health.checks()) condition.health = model::Health::kUnknown;
      carried.backends.emplace(key, std::move(condition));
    }
  }
  // What a source finds may be away for a moment, as while it is maintained: what was ordered of it stays.
  for (const auto &[key, order] : observed.orders) {
    const auto is_its_pool = [&key = key](const model::Pool &pool) { return pool.name == key.pool; };
    const auto pool = std::ranges::find_if(next.pools, is_its_pool);
    if (pool != next.pools.end() && pool->discovery.finds()) carried.orders.emplace(key, order);
  }
  // A sluiced that starts knows quorums from the snapshot alone.
  const auto &below = observed.backends.empty() ? recovered.below_quorum : observed.below_quorum;
  for (const model::Service &service : next.services) {
    if (service.quorum && below.contains(service.name)) carried.below_quorum.insert(service.name);
  }
  return carried;
}

namespace {

const std::string kPortsAway = "the dataplane is away, and this host's ports with it";
const std::string kUnknownFlow = "the dataplane is away, or does not know this check yet";

// Through the data path, from the ports that the dataplane knows as this backend's.
void send_through(const model::Pool &pool, const model::CheckFlows &flows, CheckTarget *target) {
  target->spec.address = *pool.health.vip;
  const auto found = flows.find(target->key);
  if (found != flows.end() && found->second.backend == target->address &&
      found->second.source == model::check_source(pool)) {
    target->spec.first_source_port = found->second.first_port;
  } else {
    target->spec.rests = kUnknownFlow;
  }
}

}  // namespace

std::vector<CheckTarget> check_targets(const model::DesiredState &desired,
                                       const model::ObservedState &observed, const CheckPaths &paths) {
  std::vector<CheckTarget> targets;
  for (const model::Pool &pool : desired.pools) {
    if (!pool.health.checks()) continue;
    for (const model::BackendSpec &backend : pool.backends) {
      const model::OperatorOrder *order = observed.order_of({pool.name, backend.name});
      if (order != nullptr && order->kind == model::OrderKind::kMaintenance) continue;
      CheckTarget target;
      target.key = {pool.name, backend.name};
      target.address = backend.address;
      target.spec = {.address = backend.checked_address(),
                     .l4_port = backend.check_port == 0 ? pool.health.port : backend.check_port,
                     .health = pool.health,
                     .backend = target.key};
      if (pool.health.vip) send_through(pool, paths.flows, &target);
      if (paths.ports_away) target.spec.rests = kPortsAway;
      target.initial = observed.health_of(target.key);
      targets.push_back(std::move(target));
    }
  }
  return targets;
}

}  // namespace sluice
