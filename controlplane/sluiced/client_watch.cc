#include "controlplane/sluiced/client_watch.h"

#include <utility>

#include "controlplane/publish/counter_reader.h"

namespace sluice {

namespace {

void add_events(size_t pool, std::vector<OutlierEvent> from, std::vector<ClientWatch::Event> *to) {
  for (OutlierEvent &event : from) to->push_back({{pool, event.place}, event.kind, std::move(event.text)});
}

}  // namespace

void ClientWatch::watch(const model::DesiredState &desired, const model::Identifiers &identifiers) {
  std::map<std::string, OutlierPool> before;
  for (auto &[place, pool] : pools_) before.emplace(std::move(pool.name), std::move(pool.outliers));
  pools_.clear();
  for (size_t i = 0; i < desired.pools.size(); i++) {
    const model::Pool &from = desired.pools[i];
    if (!from.passive) continue;
    std::vector<OutlierPool::Member> members;
    members.reserve(from.backends.size());
    for (const model::BackendSpec &backend : from.backends)
      members.push_back({backend.name, identifiers.backend_id({from.name, backend.name}).value_or(0)});
    Pool &pool = pools_[i];
    pool.name = from.name;
    pool.config = *from.passive;
    pool.outliers = std::move(before[from.name]);
    pool.outliers.set_members(std::move(members));
    pool.samples.resize(from.backends.size());
  }
}

void ClientWatch::set_serves(Place place, bool serves) {
  const auto pool = pools_.find(place.pool);
  if (pool == pools_.end()) return;
  const bool is_known = pool->second.outliers.members()[place.backend].identifier != 0;
  pool->second.samples[place.backend].serves = is_known && serves;
}

void ClientWatch::read(const CounterView &counters, Pool *pool) {
  const std::vector<OutlierPool::Member> &members = pool->outliers.members();
  for (size_t i = 0; i < members.size(); i++) {
    const BackendTotals totals = read_backend(counters, members[i].identifier);
    pool->samples[i].counts = {.opens = totals.tcp_opens,
                               .progresses = totals.tcp_progresses,
                               .repeated_opens = totals.tcp_repeated_opens,
                               .resets = totals.tcp_resets,
                               .unreachables = totals.unreachables,
                               .packets = totals.packets};
  }
}

std::vector<ClientWatch::Event> ClientWatch::look(const CounterView &counters, OutlierTime now) {
  std::vector<Event> events;
  for (auto &[place, pool] : pools_) {
    read(counters, &pool);
    add_events(place, pool.outliers.observe(pool.config, now, pool.samples), &events);
  }
  return events;
}

std::vector<ClientWatch::Event> ClientWatch::look_away(OutlierTime now) {
  std::vector<Event> events;
  for (auto &[place, pool] : pools_) add_events(place, pool.outliers.let_back(now), &events);
  return events;
}

OutlierState ClientWatch::state(Place place) const {
  const auto pool = pools_.find(place.pool);
  return pool == pools_.end() ? OutlierState::kServing : pool->second.outliers.state(place.backend);
}

std::string ClientWatch::text(Place place, OutlierTime now) const {
  const auto pool = pools_.find(place.pool);
  if (pool == pools_.end()) return "";
  return pool->second.outliers.text(pool->second.config, place.backend, now);
}

}  // namespace sluice
