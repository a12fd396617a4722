// What a change would do, before it is made.
#include <cmath>
#include <ctime>

#include <spdlog/fmt/fmt.h>

#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

template <typename Record>
bool same_records(std::span<const Record> a, std::span<const Record> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

// Whether no packet of any connection can be decided otherwise: the same VIPs and ports, and whoever kept
// connections does.
bool keeps_connections(const SnapshotView &before, const SnapshotView &after) {
  if (!same_records(before.vips(), after.vips()) ||
      !same_records(before.port_ranges(), after.port_ranges()) ||
      after.backends().size() < before.backends().size())
    return false;
  for (size_t id = 0; id < before.backends().size(); id++) {
    const Backend &old_one = before.backends()[id];
    const Backend &new_one = after.backends()[id];
    if (!backend_keeps_connections(&old_one)) continue;
    const bool goes_down = new_one.state == kBackendDown && old_one.state != kBackendDown;  // UDP begins anew
    if (!backend_keeps_connections(&new_one) || goes_down) return false;
  }
  return true;
}

uint64_t boottime_s() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec);
}

// All that is not known yet is well, and has its whole weight.
bool bring_up(const model::DesiredState &desired, model::ObservedState *observed) {
  bool any = false;
  for (const model::Pool &pool : desired.pools) {
    for (const model::BackendSpec &backend : pool.backends) {
      const model::BackendKey key{pool.name, backend.name};
      model::BackendCondition &condition = observed->backends[key];
      const bool is_unknown = pool.health.checks() && condition.health == model::Health::kUnknown &&
                              observed->order_of(key) == nullptr;
      if (!is_unknown && condition.ramp_step == kRampSteps) continue;
      any = true;
      if (is_unknown) condition.health = model::Health::kUp;
      condition.serving = true;
      condition.ramp_step = kRampSteps;
    }
  }
  return any;
}

// Of 1: "12.5%".
std::string percent_text(double share) { return fmt::format("{:.3g}%", share * 100); }

}  // namespace

// Backends whose connections are given up at a time, and were not before.
std::set<uint16_t> Reconciler::new_deadlines(const model::ObservedState &next,
                                             const model::Identifiers &ids) const {
  std::set<uint16_t> backends;
  for (const auto &[key, condition] : next.backends) {
    const bool has = condition.drain && condition.drain->ends;
    const model::BackendCondition &before = observed_.condition_of(key);
    const bool had = before.drain && before.drain->ends;
    const auto id = ids.backend_id(key);
    if (has && !had && id) backends.insert(*id);
  }
  return backends;
}

// A result when the change is not to be made: a dry run, or more than may move. `plan` is filled when there
// is something to compare.
std::optional<api::ChangeResult> Reconciler::look_ahead(const model::DesiredState &desired,
                                                        model::ObservedState observed,
                                                        const api::Terms &terms,
                                                        std::optional<api::Plan> *plan) {
  if (link_.connected()) begin_pending_orders(&observed);
  const Result<Made> made = make(desired, &observed);
  if (!made.ok()) return api::ChangeResult{.outcome = Outcome::kRefused, .message = made.error().message};
  if (in_force_ == nullptr) {
    if (!terms.dry_run) return std::nullopt;
    return api::ChangeResult{.outcome = Outcome::kPlanned,
                             .message = "nothing is in force that it could move"};
  }
  const SnapshotView &before = in_force_->view();
  const SnapshotView &after = made.value().snapshot->view();
  const auto tables = link_.connections();
  // A look at millions of entries is made when it can find something, or somebody wants to know.
  const bool looks = tables.ok() && (terms.dry_run || !keeps_connections(before, after));
  const ForecastInput input{.before = before,
                            .after = after,
                            .connections = looks ? &*tables.value() : nullptr,
                            .boottime_s = boottime_s(),
                            .new_deadlines = new_deadlines(observed, *made.value().ids)};
  plan->emplace().at_once = forecast(input);
  (*plan)->once_up = forecast_once_up(desired, std::move(observed), input);
  api::ChangeResult result{.plan = *plan};
  if (terms.dry_run) {
    result.outcome = Outcome::kPlanned;
    const std::string above = above_max_moved(**plan);
    result.message = above.empty() ? "a dry run: nothing has changed"
                                   : "a dry run: nothing has changed. It would be refused: " + above;
    return result;
  }
  if (terms.force) return std::nullopt;
  const std::string above = above_max_moved(**plan);
  if (above.empty()) return std::nullopt;
  result.outcome = Outcome::kTooMuch;
  result.message = above + "; --force (force=true) makes the change all the same";
  return result;
}

std::optional<Forecast> Reconciler::forecast_once_up(const model::DesiredState &desired,
                                                     model::ObservedState observed, ForecastInput input) {
  if (!bring_up(desired, &observed)) return std::nullopt;
  // What checks and slow starts change anyway is not this change's doing.
  model::ObservedState observed_before = observed_;
  bring_up(desired_, &observed_before);
  const Result<Made> before = make(desired_, &observed_before);
  const Result<Made> made = make(desired, &observed);
  if (!before.ok() || !made.ok()) return std::nullopt;
  return forecast({.before = before.value().snapshot->view(),
                   .after = made.value().snapshot->view(),
                   .connections = input.connections,
                   .boottime_s = input.boottime_s,
                   .new_deadlines = input.new_deadlines});
}

// In words, with the service that is concerned most; empty: it is within what may move.
std::string Reconciler::above_max_moved(const api::Plan &plan) const {
  const model::MaxMoved &most = configured_.max_moved;
  for (const Forecast *each : {&plan.at_once, plan.once_up ? &*plan.once_up : nullptr}) {
    if (each == nullptr) continue;
    for (const ServiceForecast &of : each->services) {
      if (of.moved * 100 > most.slots_percent) {
        return fmt::format("it would move {} of the slots of service {} (max_moved.slots: {}%)",
                           percent_text(of.moved), of.service, most.slots_percent);
      }
      if (!of.connections || of.connections->live == 0) continue;
      const uint64_t gone = of.connections->moved + of.connections->broken;
      if (gone * 100 > of.connections->live * most.connections_percent) {
        return fmt::format(
            "it would break {} of the {} live connections of service {} (max_moved.connections: {}%)", gone,
            of.connections->live, of.service, most.connections_percent);
      }
    }
  }
  return "";
}

}  // namespace sluice
