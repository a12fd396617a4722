// Backends that the pools' sources find: they come and go without the operator.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/discovery/merge.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

Result<model::DesiredState> Reconciler::with_found(const model::DesiredState &configured) const {
  if (discoverer_ == nullptr) return configured;
  Result<Merged> merged = merge(configured, discoverer_->found());
  if (!merged.ok()) return Error{"with the backends that were found, " + merged.error().message};
  return std::move(merged.value().state);
}

// Begins with what was found before, if there is room for it.
void Reconciler::begin_discovery() {
  if (discoverer_ == nullptr) return;
  discoverer_->set_sources(configured_);
  Result<model::DesiredState> merged = with_found(configured_);
  if (merged.ok()) {
    desired_ = std::move(merged).value();
  } else {
    spdlog::error("beginning without found backends: {}", merged.error().message);
  }
}

api::ChangeResult Reconciler::apply_found() {
  found_noted_ = false;
  Result<model::DesiredState> next = with_found(configured_);
  if (!next.ok()) {
    spdlog::error("found backends are not used: {}", next.error().message);
    return {.outcome = Outcome::kRefused, .message = next.error().message};
  }
  if (next.value() == desired_) return unchanged("nothing to change");
  api::ChangeResult applied = change_members(std::move(next).value());
  if (applied.outcome == Outcome::kRefused) {
    spdlog::error("found backends are not used: {}", applied.message);
    noted_ = true;  // what is in force and what is wanted agree again
  }
  return applied;
}

namespace {

api::ChangeResult without_change(const Registered &registered) {
  using From = Registered::Outcome;
  using To = api::ChangeResult::Outcome;
  switch (registered.outcome) {
    case From::kNotFound:
      return {.outcome = To::kNotFound, .message = registered.message};
    case From::kConflict:
      return {.outcome = To::kConflict, .message = registered.message};
    case From::kRefused:
      return {.outcome = To::kRefused, .message = registered.message};
    case From::kTaken:
    case From::kUnchanged:
      break;
  }
  return {.outcome = To::kUnchanged, .message = registered.message};
}

const Registered kNoDiscovery{Registered::Outcome::kNotFound, "no pool has a source of backends"};

}  // namespace

// A heartbeat is answered without a look at the rest.
api::ChangeResult Reconciler::after(const Registered &registered) {
  if (registered.outcome == Registered::Outcome::kUnchanged) return unchanged(registered.message);
  if (registered.outcome != Registered::Outcome::kTaken) return without_change(registered);
  reconnect();
  return apply_found();
}

api::ChangeResult Reconciler::put_registration(const std::string &pool, const FoundBackend &backend) {
  return after(discoverer_ == nullptr ? kNoDiscovery : discoverer_->put_registration(pool, backend));
}

api::ChangeResult Reconciler::remove_registration(const std::string &pool, const std::string &name) {
  return after(discoverer_ == nullptr ? kNoDiscovery : discoverer_->remove_registration(pool, name));
}

std::vector<SourceReport> Reconciler::sources() const {
  return discoverer_ == nullptr ? std::vector<SourceReport>() : discoverer_->reports();
}

}  // namespace sluice
