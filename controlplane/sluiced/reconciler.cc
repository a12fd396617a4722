#include "controlplane/sluiced/reconciler.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/config/document_changes.h"
#include "controlplane/lifecycle/quorum.h"
#include "controlplane/sluiced/carry_over.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kStoreDelay{1};  // several changes in a second are stored once
constexpr std::chrono::seconds kReviewInterval{10};
constexpr std::chrono::seconds kPortsDelay{3};  // until a DPDK engine's links and next hops are there
constexpr const char *kDpdk = "dpdk";
constexpr std::chrono::seconds kFirstStorageBackoff{1};
constexpr std::chrono::seconds kLongestStorageBackoff{60};

}  // namespace

Reconciler::Reconciler(Parts parts)
    : config_path_(std::move(parts.config_path)),
      history_(std::move(parts.history)),
      configured_(std::move(parts.desired)),
      desired_(configured_),
      store_(std::move(parts.store)),
      link_(std::move(parts.link)),
      stored_flow_hash_key_(parts.stored_flow_hash_key),
      identifiers_(std::make_shared<model::Identifiers>()),
      latest_identifiers_(identifiers_),
      config_problem_(std::move(parts.config_problem)),
      config_loaded_unix_s_(clock_.now().unix_s) {}

Status Reconciler::start(HealthMonitor *monitor, Discoverer *discoverer) {
  monitor_ = monitor;
  discoverer_ = discoverer;
  Result<OperatorWeights> weights = store_.load_weights();
  if (!weights.ok()) return weights.error();
  weights_ = std::move(weights).value();
  begin_discovery();
  Result<std::string> engine = store_.load_engine();
  if (!engine.ok()) return engine.error();
  engine_ = std::move(engine).value();
  Result<OperatorOrders> orders = store_.load_orders();
  if (!orders.ok()) return orders.error();
  const OperatorOrders stored_orders = std::move(orders).value();
  observed_.orders = stored_orders;
  Status recovered = recover_from_store();
  if (!recovered.ok()) return recovered;
  if (link_.connect_when_due(Clock::now())) {
    sync_with_dataplane();
  } else {
    observed_ = known_of(desired_);
  }
  restore_holds();
  api::ChangeResult applied = apply(desired_, &observed_);
  if (applied.outcome == Outcome::kRefused) {
    if (in_force_ != nullptr && !used_found_.empty()) {
      // With fewer it would be taken, and those that are in force would be gone.
      spdlog::error("beginning with the snapshot in force: {}", applied.message);
      noted_ = true;
    } else {
      begin_with_less(&applied);
      if (applied.outcome == Outcome::kRefused && !link_.connected()) return Error{applied.message};
    }
  }
  note_members();
  // Without backends that the configuration has lost meanwhile: they must not come back drained.
  if (observed_.orders != stored_orders) keep_orders(observed_.orders);
  log_quorums({});
  set_targets();
  if (applied.outcome != Outcome::kRefused) {
    const bool is_in_force = applied.outcome != Outcome::kPending && latest_ != nullptr;
    history_.note_begun(config_path_, is_in_force ? latest_->revision() : 0, clock_.unix_ms());
  }
  return Done{};
}

// What is stored counts until the dataplane tells what it has.
Status Reconciler::recover_from_store() {
  Result<std::optional<SnapshotBytes>> stored = store_.load_snapshot();
  if (!stored.ok()) return stored.error();
  if (!stored.value().has_value()) return Done{};
  Result<std::shared_ptr<const HeldSnapshot>> held = HeldSnapshot::hold(std::move(*stored.value()));
  if (!held.ok()) {
    spdlog::warn("the stored snapshot is not usable, starting without it: {}", held.error().message);
    return Done{};
  }
  adopt(std::move(held).value());
  return Done{};
}

// Takes `theirs` as what is in force: identifiers from it, and health where nothing else is known.
void Reconciler::adopt(std::shared_ptr<const HeldSnapshot> theirs) {
  auto recovered = std::make_shared<model::Identifiers>(model::Identifiers::recover(theirs->view()));
  recovered->keep_memory_of(*identifiers_);
  identifiers_ = std::move(recovered);
  latest_identifiers_ = identifiers_;
  highest_revision_ = std::max(highest_revision_, theirs->revision());
  in_force_ = std::move(theirs);
  latest_ = in_force_;
  clients_are_old_ = true;
}

// A new connection to the dataplane: which snapshot does it have? The higher revision knows the
// identifiers that connections name.
void Reconciler::sync_with_dataplane() {
  noted_ = true;
  note_engine();
  Result<std::optional<SnapshotBytes>> answer = link_.snapshot();
  if (!answer.ok()) {
    spdlog::error("dataplane: cannot read its snapshot: {}", answer.error().message);
    observed_ = known_of(desired_);
    clients_are_old_ = true;
    return;
  }
  std::shared_ptr<const HeldSnapshot> theirs;
  if (answer.value().has_value()) {
    Result<std::shared_ptr<const HeldSnapshot>> held = HeldSnapshot::hold(std::move(*answer.value()));
    if (held.ok()) {
      theirs = std::move(held).value();
    } else {
      spdlog::error("dataplane: its snapshot is not usable, publishing anew: {}", held.error().message);
      highest_revision_ = std::max(highest_revision_, link_.hello().revision);
    }
  }
  const bool believed = theirs != nullptr && theirs->revision() >= highest_revision_;
  if (believed) adopt(theirs);
  // Before ours makes way for an older one or none: a sluiced that starts knows health from nowhere else.
  observed_ = known_of(desired_);
  note_members();
  if (!believed) in_force_ = std::move(theirs);
  const Result<nlohmann::json> status = link_.status();
  if (status.ok()) note_storage(sluice::storage_problem(status.value()));
}

// A sluiced that starts while the dataplane is away knows from it whether checks get anywhere.
void Reconciler::note_engine() {
  if (engine_ == link_.hello().engine) return;
  engine_ = link_.hello().engine;
  const Status saved = store_.save_engine(engine_);
  if (!saved.ok()) spdlog::error("cannot store which engine the dataplane has: {}", saved.error().message);
}

model::ObservedState Reconciler::known_of(const model::DesiredState &next) const {
  return carry_over(desired_, observed_, in_force_ == nullptr ? nullptr : &in_force_->view(), next);
}

// An XDP program goes on without its daemon; a DPDK engine's NICs are nobody's meanwhile, and when it is back
// its links and next hops take a moment.
Reconciler::CheckWay Reconciler::check_way() const {
  if (!link_.connected()) return {.ports_away = engine_ == kDpdk};
  return {.ports_away = Clock::now() < ports_back_, .snapshot = in_force_};
}

CheckPaths Reconciler::check_paths() const {
  return {.flows = check_way_.snapshot == nullptr ? model::CheckFlows()
                                                  : model::check_flows_of(check_way_.snapshot->view()),
          .ports_away = check_way_.ports_away};
}

void Reconciler::set_targets() {
  check_way_ = check_way();
  check_paths_ = check_paths();
  monitor_->set_targets(check_targets(desired_, observed_, check_paths_));
}

// Checks that need the dataplane rest while it is away, and until it knows them.
void Reconciler::follow_check_way() {
  if (check_way_.ports_away && link_.connected() && !was_connected_) ports_back_ = Clock::now() + kPortsDelay;
  was_connected_ = link_.connected();
  CheckWay way = check_way();
  if (way == check_way_) return;
  check_way_ = std::move(way);
  if (check_paths() != check_paths_) set_targets();
}

// Somebody waits for what becomes of a change: the dataplane may be back since the last try.
void Reconciler::reconnect() {
  link_.notice_loss();
  if (!link_.connect_now()) return;
  sync_with_dataplane();
  apply_pending();
}

void Reconciler::tick() {
  const Clock::time_point now = Clock::now();
  link_.notice_loss();
  if (link_.connect_when_due(now)) sync_with_dataplane();
  if (now >= next_review_) {
    next_review_ = now + kReviewInterval;
    noted_ = true;
    found_noted_ = true;
  }
  note_found_retry(now);
  note_clock();
  judge_clients();
  settle_restless();
  apply_pending();
  follow_check_way();
  end_unconfirmed(now);
  if (!storage_problem_.empty() && link_.connected() && now >= next_publication_) publish_again();
  if (now >= next_hold_store_) keep_holds();
  if (store_is_old_ && now >= next_store_) store_snapshot();
}

void Reconciler::flush() {
  keep_holds();
  store_snapshot();
}

void Reconciler::store_snapshot() {
  if (!store_is_old_ || in_force_ == nullptr) return;
  const Status saved = store_.save_snapshot(in_force_->bytes());
  if (!saved.ok()) {
    spdlog::error("cannot store the snapshot, trying again: {}", saved.error().message);
    next_store_ = Clock::now() + kReviewInterval;
    return;
  }
  store_is_old_ = false;
}

void Reconciler::apply_pending() {
  if (found_noted_) apply_found();
  if (!noted_) return;
  noted_ = false;
  const std::set<std::string> below_before = observed_.below_quorum;
  const api::ChangeResult applied = apply(desired_, &observed_);
  log_quorums(below_before);
  if (applied.outcome != Outcome::kRefused) return;
  spdlog::error("{}", applied.message);
  if (fallback_.has_value() && link_.connected()) fall_back(applied.message);
}

// What was taken over while the dataplane was away is refused by it: back to what it accepted last, with
// the health that is known now.
void Reconciler::fall_back(const std::string &why) {
  Accepted accepted = std::move(*fallback_);
  fallback_.reset();
  if (accepted.configured != configured_) {
    config_problem_ = why + "; it was taken over while the dataplane was unreachable";
    spdlog::error("back to the configuration of before");
    history_.note({.action = "fall-back",
                   .subject = "the dataplane refused what it did not know yet",
                   .changes = document_changes(history_.document(), accepted.document),
                   .document = accepted.document,
                   .configuration = accepted.configuration},
                  {.message = why}, 0, clock_.unix_ms());
  }
  if (accepted.orders != observed_.orders) {
    spdlog::error("back to the drained backends and those in maintenance of before");
    keep_orders(accepted.orders);
  }
  if (accepted.weights != weights_) {
    spdlog::error("back to the weights of before");
    const Status saved = store_.save_weights(accepted.weights);
    if (!saved.ok()) spdlog::error("{}; a restart would find other weights", saved.error().message);
    weights_ = std::move(accepted.weights);
  }
  for (auto &[key, condition] : observed_.backends) {
    const model::OperatorOrder *order = observed_.order_of(key);
    const auto kept = accepted.orders.find(key);
    const bool is_same = kept == accepted.orders.end() ? order == nullptr : order && *order == kept->second;
    if (!is_same) condition.drain.reset();
  }
  changes_++;
  observed_.orders = std::move(accepted.orders);
  observed_ = known_of(accepted.desired);
  desired_ = std::move(accepted.desired);
  if (preparation_ && configured_.api != accepted.configured.api) {
    const Result<std::function<void()>> prepared = preparation_(accepted.configured);
    if (prepared.ok()) {
      prepared.value()();
    } else {
      spdlog::error("the API stays as it is: {}", prepared.error().message);
    }
  }
  configured_ = std::move(accepted.configured);
  used_found_ = std::move(accepted.found);
  if (discoverer_ != nullptr) discoverer_->set_sources(configured_);
  note_members();
  accepted_ = true;
  noted_ = true;
  set_targets();
}

// Makes the snapshot of both, and publishes it when it says something new. The caller keeps what worked.
api::ChangeResult Reconciler::apply(const model::DesiredState &desired, model::ObservedState *observed) {
  const OperatorOrders before = observed->orders;
  if (!link_.connected() || !begin_pending_orders(observed)) return apply_begun(desired, observed);
  api::ChangeResult applied = apply_begun(desired, observed);
  if (applied.outcome == Outcome::kApplied || applied.outcome == Outcome::kUnchanged) {
    keep_orders(observed->orders);
  } else {
    observed->orders = before;
  }
  return applied;
}

// Brings `observed` up to now, and makes the snapshot of both with the identifiers for it.
Result<Reconciler::Made> Reconciler::make(const model::DesiredState &desired,
                                          model::ObservedState *observed) {
  settle_all(desired, observed);
  const uint64_t now_ns = clock_.unix_ns();
  auto ids = std::make_shared<model::Identifiers>(*identifiers_);
  for (const auto &[key, condition] : observed_.backends) {
    const bool is_closed = condition.drain && condition.drain->deadline_passed;
    if (is_closed && !observed->backends.contains(key)) ids->give_up(key, now_ns / 1'000'000'000);
  }
  if (const Status assigned = ids->assign(desired, now_ns / 1'000'000'000); !assigned.ok())
    return assigned.error();
  Result<CompiledSnapshot> compiled =
      compiler_.compile({.desired = desired,
                         .observed = *observed,
                         .identifiers = *ids,
                         .flow_hash_key = desired.flow_hash_key.value_or(stored_flow_hash_key_),
                         .revision = highest_revision_ + 1,
                         .created_unix_ns = now_ns});
  if (!compiled.ok()) return compiled.error();
  Result<std::shared_ptr<const HeldSnapshot>> held = HeldSnapshot::hold(std::move(compiled.value().bytes));
  if (!held.ok()) return held.error();
  return Made{std::move(held).value(), std::move(ids)};
}

api::ChangeResult Reconciler::apply_begun(const model::DesiredState &desired,
                                          model::ObservedState *observed) {
  Result<Made> made = make(desired, observed);
  if (!made.ok()) return {.outcome = Outcome::kRefused, .message = made.error().message};
  auto &[snapshot, ids] = made.value();
  if (in_force_ != nullptr && same_content(*in_force_, *snapshot)) {
    settle(in_force_, std::move(ids));
    return {.outcome = link_.connected() ? Outcome::kUnchanged : Outcome::kPending,
            .message = link_.connected() ? "nothing to change" : link_.state(),
            .snapshot = in_force_->revision()};
  }
  return publish(std::move(snapshot), std::move(ids));
}

void Reconciler::settle(std::shared_ptr<const HeldSnapshot> made,
                        std::shared_ptr<const model::Identifiers> ids) {
  in_force_ = made;
  latest_ = std::move(made);
  identifiers_ = ids;
  latest_identifiers_ = std::move(ids);
  pending_ = false;
  refusal_.clear();
  accepted_ = true;
  fallback_.reset();
}

api::ChangeResult Reconciler::publish(std::shared_ptr<const HeldSnapshot> made,
                                      std::shared_ptr<const model::Identifiers> ids) {
  const uint64_t revision = made->revision();
  const Result<Publication> published = link_.publish(made->bytes());
  if (published.ok()) {
    highest_revision_ = revision;
    note_storage(published.value().storage_problem);
    settle(std::move(made), std::move(ids));
    if (!store_is_old_) next_store_ = Clock::now() + kStoreDelay;
    store_is_old_ = true;
    spdlog::info("published snapshot {}", revision);
    return {.outcome = Outcome::kApplied, .message = "in force", .snapshot = revision};
  }
  pending_ = true;
  if (link_.connected()) {
    refusal_ = fmt::format("the dataplane refused snapshot {}: {}", revision, published.error().message);
    return {.outcome = Outcome::kRefused, .message = refusal_, .snapshot = revision};
  }
  latest_ = std::move(made);
  latest_identifiers_ = std::move(ids);
  return {.outcome = Outcome::kPending,
          .message = "taken over; " + published.error().message,
          .snapshot = revision};
}

// The dataplane forwards by a snapshot that its next start would lack: it is passed again, ever more
// rarely, until it is stored.
void Reconciler::note_storage(const std::string &problem) {
  if (problem.empty()) {
    if (!storage_problem_.empty()) spdlog::info("dataplane: its snapshot is on its disk now");
    storage_backoff_ = std::chrono::seconds(0);
  } else {
    storage_backoff_ = std::clamp(storage_backoff_ * 2, kFirstStorageBackoff, kLongestStorageBackoff);
    next_publication_ = Clock::now() + storage_backoff_;
    spdlog::warn("dataplane: its snapshot is in force but not stored, publishing again in {} s: {}",
                 storage_backoff_.count(), problem);
  }
  storage_problem_ = problem;
}

void Reconciler::publish_again() {
  if (in_force_ == nullptr) return note_storage("");
  const Result<Publication> published = link_.publish(in_force_->bytes());
  note_storage(published.ok() ? published.value().storage_problem : published.error().message);
}

// Applies and keeps other backends, of which known ones keep what they have; nothing of it when it is
// refused.
api::ChangeResult Reconciler::change_members(model::DesiredState next) {
  model::ObservedState carried = known_of(next);
  // A drain goes with its backend, from the state directory too, or it would come back at a restart.
  const bool forgets_orders = carried.orders != observed_.orders;
  const Status saved = forgets_orders ? store_.save_orders(carried.orders) : Done{};
  api::ChangeResult applied =
      saved.ok() ? apply(next, &carried)
                 : api::ChangeResult{.outcome = Outcome::kRefused, .message = saved.error().message};
  if (applied.outcome == Outcome::kRefused) {
    if (forgets_orders) keep_orders(observed_.orders);
    return applied;
  }
  take_over(std::move(next), std::move(carried), applied.outcome);
  set_targets();
  return applied;
}

// Keeps what apply() has published, or will when the dataplane is back.
void Reconciler::take_over(model::DesiredState desired, model::ObservedState observed, Outcome outcome) {
  if (outcome == Outcome::kPending && pending_) {
    if (accepted_) {
      fallback_ = Accepted{.configured = configured_,
                           .document = history_.document(),
                           .configuration = history_.configuration(),
                           .desired = std::move(desired_),
                           .orders = std::move(observed_.orders),
                           .weights = weights_,
                           .found = used_found_};
    }
    accepted_ = false;
  }
  if (desired_ != desired || observed_.orders != observed.orders) changes_++;
  const std::set<std::string> below_before = std::move(observed_.below_quorum);
  desired_ = std::move(desired);
  observed_ = std::move(observed);
  note_members();
  log_quorums(below_before);
}

}  // namespace sluice
