#include "controlplane/sluiced/control_api.h"

#include <algorithm>
#include <ctime>

#include <spdlog/fmt/fmt.h>

#include "controlplane/sluiced/state_reason.h"

namespace sluice {

namespace {

using Reports = std::unordered_map<model::BackendKey, CheckReport>;

Reports reports_by_key(const HealthMonitor &monitor) {
  Reports reports;
  for (CheckReport &report : monitor.reports()) {
    const model::BackendKey key = report.key;
    reports.emplace(key, std::move(report));
  }
  return reports;
}

api::BackendCounts count_states(const model::Pool &pool, const model::ObservedState &observed) {
  api::BackendCounts counts;
  for (const model::BackendSpec &backend : pool.backends) {
    counts.by_state[static_cast<size_t>(serving_state_of(pool, backend, observed))]++;
  }
  return counts;
}

uint64_t seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec);
}

template <typename Totals>
Totals at_or_zero(const std::vector<Totals> &totals, size_t index) {
  return index < totals.size() ? totals[index] : Totals{};
}

// What every backend's view is made from, gathered once per request.
struct BackendSources {
  const Reconciler &reconciler;
  Reports reports;
  std::set<std::string> served_whole;  // pools
  std::vector<BackendTotals> totals;

  BackendTotals traffic(uint16_t id) const { return at_or_zero(totals, id); }

  uint32_t slots(uint16_t id) const {
    return reconciler.latest() == nullptr ? 0 : reconciler.latest()->slots_by_backend()[id];
  }

  // As in the latest snapshot: with a slow start's part of it.
  uint16_t scheduled_weight(uint16_t id) const {
    if (reconciler.latest() == nullptr) return 0;
    const auto backends = reconciler.latest()->view().backends();
    return id < backends.size() ? backends[id].weight : uint16_t{0};
  }

  api::BackendView configured(const Member &member, const EffectivePool &pool,
                              const EffectiveBackend &effective) const;
  api::BackendView removed(const model::RemovedBackend &backend) const;
  std::vector<api::BackendView> of_pool(const model::Pool &pool) const;
};

api::BackendView BackendSources::configured(const Member &member, const EffectivePool &pool,
                                            const EffectiveBackend &effective) const {
  const model::BackendSpec &backend = member.backend;
  const model::BackendKey key{member.pool.name, backend.name};
  const model::BackendCondition &condition = reconciler.observed().condition_of(key);
  const model::SteadyTime now = reconciler.now().steady;
  api::BackendView view;
  view.pool = key.pool;
  view.name = key.name;
  view.address = backend.address;
  view.id = reconciler.latest_identifiers().backend_id(key).value_or(0);
  view.state = meaning_of(effective.serving).name;
  view.weight = backend.weight;
  view.configured_weight = backend.configured_weight;
  view.priority = backend.priority;
  view.source = backend.is_found ? model::source_text(member.pool.discovery.kind) : "configuration";
  const bool is_checked = member.pool.health.checks() && effective.serving != ServingState::kMaintenance;
  view.health = is_checked ? health_name(condition.health) : "unchecked";
  if (const auto report = reports.find(key); report != reports.end()) {
    view.last_check = report->second.last_text;
    view.check_age_ms = report->second.age.count();
  }
  if (condition.drain) {
    view.connections_left = condition.drain->connections_left;
    view.drain_over = is_over(*condition.drain);
    if (condition.drain->ends) view.drain_ends_s = seconds_until(*condition.drain->ends, now);
  }
  view.slots = slots(view.id);
  view.scheduled_weight = scheduled_weight(view.id);
  view.traffic = traffic(view.id);
  view.reason = state_reason(
      member, condition, pool, effective,
      {.last_check = view.last_check, .passive = reconciler.passive_text(key), .slots = view.slots}, now);
  return view;
}

api::BackendView BackendSources::removed(const model::RemovedBackend &backend) const {
  const auto grace = static_cast<uint64_t>(reconciler.desired().removed_backend_grace.count());
  const uint64_t end = backend.removed_unix_s + grace;
  const auto now = static_cast<uint64_t>(reconciler.now().unix_s);
  api::BackendView view;
  view.pool = backend.key.pool;
  view.name = backend.key.name;
  view.address = backend.address;
  view.id = backend.id;
  view.state = "removed";
  view.reason = fmt::format("no longer configured; kept for its connections for another {} s",
                            end > now ? end - now : 0);
  view.health = "unchecked";
  view.traffic = traffic(backend.id);
  return view;
}

std::vector<api::BackendView> BackendSources::of_pool(const model::Pool &pool) const {
  const EffectivePool effective = effective_pool(pool, reconciler.observed(), served_whole);
  std::vector<api::BackendView> views;
  uint32_t pool_slots = 0;
  for (size_t i = 0; i < pool.backends.size(); i++) {
    const model::OperatorOrder *order = reconciler.observed().order_of({pool.name, pool.backends[i].name});
    views.push_back(configured({pool, pool.backends[i], order}, effective, effective.backends[i]));
    pool_slots += views.back().slots;
  }
  for (api::BackendView &view : views) view.pool_slots = pool_slots;
  return views;
}

std::string dataplane_state(const Reconciler &reconciler, const DataplaneLink &link) {
  if (!link.connected()) return link.state();
  if (!reconciler.refusal().empty()) return reconciler.refusal();
  if (reconciler.storage_problem().empty()) {
    return reconciler.blindness().empty()
               ? link.state()
               : link.state() + ", but passive health sees nothing (trying again): " + reconciler.blindness();
  }
  return link.state() + ", but its snapshot is not stored and its next start would lack it (trying again): " +
         reconciler.storage_problem();
}

}  // namespace

api::StatusView ControlApi::status() {
  DataplaneLink &link = reconciler_.link();
  link.notice_loss();
  api::StatusView view;
  view.version = SLUICE_VERSION;
  view.started_unix_s = started_unix_s_;
  view.uptime_s =
      std::chrono::duration_cast<std::chrono::seconds>(reconciler_.now().steady - started_).count();
  view.clock_step_s = reconciler_.clock_step().count();
  view.config_path = reconciler_.config_path().native();
  view.config_loaded_unix_s = reconciler_.config_loaded_unix_s();
  view.api_certificate = reconciler_.desired().api.certificate_file;
  view.config_problem = reconciler_.config_problem();
  view.revision = reconciler_.history().newest();
  if (const auto &waits = reconciler_.history().confirmation()) {
    view.confirmation = {.revision = waits->revision,
                         .back_to = waits->back_to,
                         .left_s = reconciler_.history().confirmation_left()->count()};
  }
  view.config_differs = reconciler_.history().differs_from_file();
  view.snapshot = reconciler_.latest() == nullptr ? 0 : reconciler_.latest()->revision();
  view.pending = reconciler_.pending();
  view.services = reconciler_.desired().services.size();
  view.pools = reconciler_.desired().pools.size();
  for (const model::Pool &pool : reconciler_.desired().pools) {
    const api::BackendCounts counts = count_states(pool, reconciler_.observed());
    for (size_t i = 0; i < kServingStateCount; i++) view.backends.by_state[i] += counts.by_state[i];
  }
  view.backends.removed = reconciler_.latest_identifiers().removed_backends().size();
  const MonitorStats stats = reconciler_.monitor().stats();
  view.health = {.targets = stats.targets,
                 .through_dataplane = stats.through_dataplane,
                 .through_dataplane_checks = stats.through_dataplane_checks,
                 .running = stats.running,
                 .waiting = stats.waiting,
                 .max_concurrent = stats.max_concurrent,
                 .worst_lateness_ms = static_cast<double>(stats.worst_lateness.count()) / 1000};
  view.sources = reconciler_.sources();
  const Result<nlohmann::json> details = link.status();
  view.dataplane.connected = link.connected();
  view.dataplane.state = dataplane_state(reconciler_, link);
  view.dataplane.socket = link.path().native();
  view.dataplane.engine = link.hello().engine;
  view.dataplane.version = link.hello().version;
  view.dataplane.snapshot = reconciler_.in_force() == nullptr ? 0 : reconciler_.in_force()->revision();
  if (details.ok()) view.dataplane.details = details.value();
  return view;
}

// What left the configuration still has connections, and may be asked for.
bool ControlApi::has_service(const std::string &name) {
  const auto is_meant = [&](const model::Service &service) { return service.name == name; };
  if (std::ranges::any_of(reconciler_.desired().services, is_meant)) return true;
  if (reconciler_.in_force() == nullptr) return false;
  const SnapshotView &view = reconciler_.in_force()->view();
  return std::ranges::any_of(view.services(), [&](const Service &service) {
    return service.scheduler != 0 && view.text(service.name) == name;
  });
}

bool ControlApi::has_pool(const std::string &name) {
  const auto is_meant = [&](const model::Pool &pool) { return pool.name == name; };
  const auto was_of_it = [&](const auto &removed) { return removed.second.key.pool == name; };
  return std::ranges::any_of(reconciler_.desired().pools, is_meant) ||
         std::ranges::any_of(reconciler_.latest_identifiers().removed_backends(), was_of_it);
}

bool ControlApi::has_backend(const std::optional<std::string> &pool, const std::string &name) {
  const auto is_meant = [&](const std::string &of_pool, const std::string &backend) {
    return backend == name && (!pool || *pool == of_pool);
  };
  for (const model::Pool &each : reconciler_.desired().pools) {
    for (const model::BackendSpec &backend : each.backends) {
      if (is_meant(each.name, backend.name)) return true;
    }
  }
  return std::ranges::any_of(reconciler_.latest_identifiers().removed_backends(), [&](const auto &removed) {
    return is_meant(removed.second.key.pool, removed.second.key.name);
  });
}

std::optional<api::QuorumView> ControlApi::quorum_of(const model::Service &service,
                                                     const PoolCount &count) const {
  if (!service.quorum) return std::nullopt;
  api::QuorumView view;
  view.count = count;
  view.min = needed(service.quorum->min, count.wanted);
  view.recover = needed(service.quorum->recover, count.wanted);
  view.is_below = reconciler_.observed().below_quorum.contains(service.name);
  if (view.is_below) view.text = quorum_text(*service.quorum, view.is_below);
  return view;
}

std::vector<api::ServiceView> ControlApi::services(const std::optional<std::string> &name) {
  std::vector<ServiceTotals> totals;
  if (const auto region = reconciler_.link().counters(); region.ok()) totals = read_services(*region.value());
  std::unordered_map<std::string, api::BackendCounts> pools;
  std::unordered_map<std::string, PoolCount> serving;
  for (const model::Pool &pool : reconciler_.desired().pools) {
    pools.emplace(pool.name, count_states(pool, reconciler_.observed()));
    serving.emplace(pool.name, count_serving(pool, reconciler_.observed()));
  }
  std::vector<api::ServiceView> views;
  for (const model::Service &service : reconciler_.desired().services) {
    if (name.has_value() && service.name != *name) continue;
    const auto id = reconciler_.latest_identifiers().service_id(service.name);
    views.push_back({.service = service,
                     .backends = pools[service.pool],
                     .quorum = quorum_of(service, serving[service.pool]),
                     .traffic = id.has_value() ? at_or_zero(totals, *id) : ServiceTotals{}});
  }
  return views;
}

std::vector<api::BackendView> ControlApi::backends(const std::optional<std::string> &pool_name) {
  BackendSources sources{reconciler_,
                         reports_by_key(reconciler_.monitor()),
                         pools_served_whole(reconciler_.desired(), reconciler_.observed()),
                         {}};
  if (const auto region = reconciler_.link().counters(); region.ok())
    sources.totals = read_backends(*region.value());
  std::vector<api::BackendView> views;
  for (const model::Pool &pool : reconciler_.desired().pools) {
    if (pool_name.has_value() && pool.name != *pool_name) continue;
    std::vector<api::BackendView> members = sources.of_pool(pool);
    views.insert(views.end(), std::make_move_iterator(members.begin()),
                 std::make_move_iterator(members.end()));
  }
  for (const auto &[id, removed] : reconciler_.latest_identifiers().removed_backends()) {
    if (!pool_name.has_value() || removed.key.pool == *pool_name) views.push_back(sources.removed(removed));
  }
  return views;
}

Result<ConnectionList> ControlApi::connections(const ConnectionFilter &filter) {
  const auto region = reconciler_.link().connections();
  if (!region.ok()) return region.error();
  if (reconciler_.in_force() == nullptr) return ConnectionList{};
  return list_connections(*region.value(), reconciler_.in_force()->view(), filter,
                          seconds_of(CLOCK_BOOTTIME));
}

api::Explained ControlApi::explain(const nlohmann::json &fields) {
  using Outcome = api::Explained::Outcome;
  DataplaneLink &link = reconciler_.link();
  link.notice_loss();
  Result<nlohmann::json> answer = link.explain(fields);
  if (answer.ok()) return {.outcome = Outcome::kExplained, .answer = std::move(answer).value()};
  const Outcome outcome = link.connected() ? Outcome::kRefused : Outcome::kUnreachable;
  return {.outcome = outcome, .message = answer.error().message};
}

namespace {

constexpr std::chrono::seconds kBusyInterval{1};  // several readers in a second get the same

std::optional<double> busy_ratio(const CounterTotals &before, const CounterTotals &now) {
  const bool has_restarted = now.total_cycles < before.total_cycles || now.busy_cycles < before.busy_cycles;
  const uint64_t total = has_restarted ? now.total_cycles : now.total_cycles - before.total_cycles;
  const uint64_t busy = has_restarted ? now.busy_cycles : now.busy_cycles - before.busy_cycles;
  if (total == 0) return std::nullopt;
  return static_cast<double>(busy) / static_cast<double>(total);
}

uint64_t room_of(const ConnectionRegionHeader &header) {
  return header.live_tables * (uint64_t{header.ipv4_buckets} * kIpv4EntriesPerBucket +
                               uint64_t{header.ipv6_buckets} * kIpv6EntriesPerBucket);
}

// Whether one more of `count` objects has series.
bool has_series(api::MetricsChoice choice, size_t so_far) {
  if (choice == api::MetricsChoice::kAuto) return so_far < api::kMaxSeriesObjects;
  return choice == api::MetricsChoice::kAll;
}

}  // namespace

void ControlApi::add_traffic(const CounterView &region, api::MetricsView *view) {
  view->has_counters = true;
  view->totals = read_totals(region);
  std::vector<CounterTotals> workers;
  for (uint32_t i = 0; i < region.header().worker_count; i++) workers.push_back(read_worker(region, i));
  const auto now = std::chrono::steady_clock::now();
  if (busy_.ratios.size() != workers.size() || now - busy_.at >= kBusyInterval) {
    busy_.totals.resize(workers.size());
    busy_.ratios.clear();
    for (size_t i = 0; i < workers.size(); i++)
      busy_.ratios.push_back(busy_ratio(busy_.totals[i], workers[i]));
    busy_.totals = workers;
    busy_.at = now;
  }
  for (size_t i = 0; i < workers.size(); i++) view->workers.push_back({workers[i], busy_.ratios[i]});
  if (const auto tables = reconciler_.link().connections(); tables.ok())
    view->connection_room = room_of(tables.value()->header());
}

// Of more backends than have series, those without new connections are the ones to know of.
void ControlApi::add_backends(const api::MetricsFilter &filter, const std::vector<BackendTotals> &totals,
                              api::MetricsView *view) const {
  const model::DesiredState &desired = reconciler_.desired();
  const model::ObservedState &observed = reconciler_.observed();
  size_t all = 0;
  for (const model::Pool &pool : desired.pools)
    if (!filter.pool || *filter.pool == pool.name) all += pool.backends.size();
  const bool are_many = filter.backends == api::MetricsChoice::kAuto && all > api::kMaxSeriesObjects;
  for (const model::Pool &pool : desired.pools) {
    if (filter.pool && *filter.pool != pool.name) continue;
    api::PoolMetrics counted{.name = pool.name, .backends = pool.backends.size()};
    for (const model::BackendSpec &backend : pool.backends) {
      const StateMeaning &state = meaning_of(serving_state_of(pool, backend, observed));
      if (state.takes_new) counted.serving++;
      if ((are_many && state.takes_new) || !has_series(filter.backends, view->backends.size())) {
        view->backends_left_out++;
        continue;
      }
      const uint16_t id = reconciler_.latest_identifiers().backend_id({pool.name, backend.name}).value_or(0);
      view->backends.push_back(
          {.pool = pool.name,
           .name = backend.name,
           .state = state.name,
           .is_up = state.takes_new,
           .weight = backend.weight,
           .slots = reconciler_.latest() == nullptr ? 0 : reconciler_.latest()->slots_by_backend()[id],
           .traffic = at_or_zero(totals, id)});
    }
    if (has_series(filter.pools, view->pools.size())) {
      view->pools.push_back(std::move(counted));
    } else {
      view->pools_left_out++;
    }
  }
}

api::MetricsView ControlApi::metrics(const api::MetricsFilter &filter) {
  api::MetricsView view;
  view.status = status();
  view.checks = reconciler_.monitor().totals();
  std::vector<BackendTotals> totals;
  if (const auto region = reconciler_.link().counters(); region.ok()) {
    totals = read_backends(*region.value());
    add_traffic(*region.value(), &view);
  }
  for (const BackendTotals &each : totals) view.connections += each.active_connections;
  add_backends(filter, totals, &view);
  for (api::ServiceView &service : services(std::nullopt)) {
    if (filter.pool && service.service.pool != *filter.pool) continue;
    if (has_series(filter.services, view.services.size())) {
      view.services.push_back(std::move(service));
    } else {
      view.services_left_out++;
    }
  }
  return view;
}

Result<api::CountersView> ControlApi::counters() {
  const auto region = reconciler_.link().counters();
  if (!region.ok()) return region.error();
  api::CountersView view;
  view.started_unix_ns = region.value()->header().started_unix_ns;
  view.totals = read_totals(*region.value());
  for (uint32_t i = 0; i < region.value()->header().worker_count; i++) {
    view.workers.push_back(read_worker(*region.value(), i));
  }
  view.services = services(std::nullopt);
  view.backends = backends(std::nullopt);
  return view;
}

// A sluiced that started anew counts from the beginning: its start belongs to the version.
std::string ControlApi::version() { return fmt::format("{:x}-{}", started_unix_s_, reconciler_.changes()); }

Status ControlApi::readiness() {
  DataplaneLink &link = reconciler_.link();
  link.notice_loss();
  if (!link.connected()) return Error{link.state()};
  if (reconciler_.in_force() == nullptr) return Error{"the dataplane has no snapshot yet"};
  return Done{};
}

std::vector<std::string> ControlApi::services_of_pool(const std::string &pool) {
  std::vector<std::string> names;
  for (const model::Service &service : reconciler_.desired().services) {
    if (service.pool == pool || (service.quorum && service.quorum->backup_pool == pool))
      names.push_back(service.name);
  }
  return names;
}

nlohmann::json ControlApi::backend_summary(const model::BackendKey &key) {
  for (const model::Pool &pool : reconciler_.desired().pools) {
    if (pool.name != key.pool) continue;
    for (const model::BackendSpec &backend : pool.backends) {
      if (backend.name != key.name) continue;
      return {{"state", meaning_of(serving_state_of(pool, backend, reconciler_.observed())).name},
              {"address", format_address(backend.address)},
              {"weight", backend.weight}};
    }
  }
  return nullptr;
}

}  // namespace sluice
