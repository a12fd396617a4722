#include "controlplane/sluiced/reconciler.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/sluiced/carry_over.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kStoreDelay{1};  // several changes in a second are stored once
constexpr std::chrono::seconds kReviewInterval{10};

uint64_t unix_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

std::string key_text(const model::BackendKey &key) { return key.pool + "/" + key.name; }

}  // namespace

Reconciler::Reconciler(Parts parts)
    : config_path_(std::move(parts.config_path)),
      desired_(std::move(parts.desired)),
      store_(std::move(parts.store)),
      link_(std::move(parts.link)),
      stored_flow_hash_key_(parts.stored_flow_hash_key),
      identifiers_(std::make_shared<model::Identifiers>()),
      latest_identifiers_(identifiers_),
      config_loaded_unix_s_(static_cast<int64_t>(unix_ns() / 1'000'000'000)) {}

Status Reconciler::start(HealthMonitor *monitor) {
  monitor_ = monitor;
  Result<std::set<model::BackendKey>> drained = store_.load_drained();
  if (!drained.ok()) return drained.error();
  observed_.drained = std::move(drained).value();
  Status recovered = recover_from_store();
  if (!recovered.ok()) return recovered;
  if (link_.connect_when_due(Clock::now())) {
    sync_with_dataplane();
  } else {
    observed_ = known_of(desired_);
  }
  const api::ChangeResult applied = apply(desired_, observed_);
  if (applied.outcome == Outcome::kRefused && !link_.connected()) return Error{applied.message};
  set_targets();
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
}

// A new connection to the dataplane: which snapshot does it have? The higher revision knows the
// identifiers that connections name.
void Reconciler::sync_with_dataplane() {
  noted_ = true;
  Result<std::optional<SnapshotBytes>> answer = link_.snapshot();
  if (!answer.ok()) {
    spdlog::error("dataplane: cannot read its snapshot: {}", answer.error().message);
    observed_ = known_of(desired_);
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
  if (!believed) in_force_ = std::move(theirs);
}

model::ObservedState Reconciler::known_of(const model::DesiredState &next) const {
  return carry_over(desired_, observed_, in_force_ == nullptr ? nullptr : &in_force_->view(), next);
}

void Reconciler::set_targets() { monitor_->set_targets(check_targets(desired_, observed_)); }

void Reconciler::tick() {
  const Clock::time_point now = Clock::now();
  link_.notice_loss();
  if (link_.connect_when_due(now)) sync_with_dataplane();
  if (now >= next_review_) {
    next_review_ = now + kReviewInterval;
    noted_ = true;
  }
  apply_pending();
  if (store_is_old_ && now >= next_store_) flush();
}

void Reconciler::flush() {
  if (!store_is_old_ || in_force_ == nullptr) return;
  const Status saved = store_.save_snapshot(in_force_->bytes());
  if (!saved.ok()) {
    spdlog::error("cannot store the snapshot, trying again: {}", saved.error().message);
    next_store_ = Clock::now() + kReviewInterval;
    return;
  }
  store_is_old_ = false;
}

void Reconciler::note_health(const model::BackendKey &key, model::Health health, const std::string &reason) {
  if (find_backend(key) == nullptr) return;  // removed while its check ran
  model::Health &known = observed_.health[key];
  if (known == health) return;
  spdlog::log(health == model::Health::kUp ? spdlog::level::info : spdlog::level::warn,
              "backend {} is {}: {}", key_text(key), health_name(health), reason);
  known = health;
  noted_ = true;
}

void Reconciler::apply_pending() {
  if (!noted_) return;
  noted_ = false;
  const api::ChangeResult applied = apply(desired_, observed_);
  if (applied.outcome == Outcome::kRefused) spdlog::error("{}", applied.message);
}

// Makes the snapshot of `desired` and `observed`, and publishes it when it says something new. Changes
// neither: the caller keeps what worked.
api::ChangeResult Reconciler::apply(const model::DesiredState &desired,
                                    const model::ObservedState &observed) {
  const uint64_t now_ns = unix_ns();
  auto ids = std::make_shared<model::Identifiers>(*identifiers_);
  const Status assigned = ids->assign(desired, now_ns / 1'000'000'000);
  if (!assigned.ok()) return {.outcome = Outcome::kRefused, .message = assigned.error().message};
  Result<CompiledSnapshot> compiled =
      compiler_.compile({.desired = desired,
                         .observed = observed,
                         .identifiers = *ids,
                         .flow_hash_key = desired.flow_hash_key.value_or(stored_flow_hash_key_),
                         .revision = highest_revision_ + 1,
                         .created_unix_ns = now_ns});
  if (!compiled.ok()) return {.outcome = Outcome::kRefused, .message = compiled.error().message};
  Result<std::shared_ptr<const HeldSnapshot>> made = HeldSnapshot::hold(std::move(compiled.value().bytes));
  if (!made.ok()) return {.outcome = Outcome::kRefused, .message = made.error().message};
  if (in_force_ != nullptr && same_content(*in_force_, *made.value())) {
    settle(in_force_, std::move(ids));
    return {.outcome = link_.connected() ? Outcome::kUnchanged : Outcome::kPending,
            .message = link_.connected() ? "nothing to change" : link_.state(),
            .revision = in_force_->revision()};
  }
  return publish(std::move(made).value(), std::move(ids));
}

void Reconciler::settle(std::shared_ptr<const HeldSnapshot> made,
                        std::shared_ptr<const model::Identifiers> ids) {
  in_force_ = made;
  latest_ = std::move(made);
  identifiers_ = ids;
  latest_identifiers_ = std::move(ids);
  pending_ = false;
  refusal_.clear();
}

api::ChangeResult Reconciler::publish(std::shared_ptr<const HeldSnapshot> made,
                                      std::shared_ptr<const model::Identifiers> ids) {
  const uint64_t revision = made->revision();
  const Result<uint64_t> published = link_.publish(made->bytes());
  if (published.ok()) {
    highest_revision_ = revision;
    settle(std::move(made), std::move(ids));
    if (!store_is_old_) next_store_ = Clock::now() + kStoreDelay;
    store_is_old_ = true;
    spdlog::info("published revision {}", revision);
    return {.outcome = Outcome::kApplied, .message = "in force", .revision = revision};
  }
  pending_ = true;
  if (link_.connected()) {
    refusal_ = fmt::format("the dataplane refused revision {}: {}", revision, published.error().message);
    return {.outcome = Outcome::kRefused, .message = refusal_, .revision = revision};
  }
  latest_ = std::move(made);
  latest_identifiers_ = std::move(ids);
  return {.outcome = Outcome::kPending,
          .message = "taken over; " + published.error().message,
          .revision = revision};
}

api::ChangeResult Reconciler::reload() {
  LoadedConfig loaded = load_config_file(config_path_);
  if (!loaded.ok()) {
    config_problem_ = loaded.errors_to_string();
    spdlog::error("reload refused, the configuration of before stays:\n{}", config_problem_);
    return {.outcome = Outcome::kInvalidConfig,
            .message = fmt::format("{} has {} error(s); the configuration of before stays",
                                   config_path_.native(), loaded.errors.size()),
            .errors = std::move(loaded.errors)};
  }
  const model::ObservedState carried = known_of(*loaded.state);
  api::ChangeResult applied = apply(*loaded.state, carried);
  if (applied.outcome == Outcome::kRefused) {
    config_problem_ = applied.message;
    applied.message += "; the configuration of before stays";
    spdlog::error("reload refused: {}", applied.message);
    noted_ = true;  // what was noted before must still go out
    return applied;
  }
  desired_ = std::move(*loaded.state);
  observed_ = carried;
  config_problem_.clear();
  config_loaded_unix_s_ = static_cast<int64_t>(unix_ns() / 1'000'000'000);
  set_targets();
  spdlog::info("configuration reloaded from {}: {} services, {} pools", config_path_.native(),
               desired_.services.size(), desired_.pools.size());
  return applied;
}

const model::BackendSpec *Reconciler::find_backend(const model::BackendKey &key) const {
  for (const model::Pool &pool : desired_.pools) {
    if (pool.name != key.pool) continue;
    for (const model::BackendSpec &backend : pool.backends) {
      if (backend.name == key.name) return &backend;
    }
  }
  return nullptr;
}

namespace {

api::ChangeResult no_such_backend(const model::BackendKey &key) {
  return {.outcome = api::ChangeResult::Outcome::kNotFound,
          .message = fmt::format("there is no backend \"{}\" in a pool \"{}\"; GET /v1/backends lists them",
                                 key.name, key.pool)};
}

}  // namespace

api::ChangeResult Reconciler::drain(const model::BackendKey &key) {
  const model::BackendSpec *backend = find_backend(key);
  if (backend == nullptr) return no_such_backend(key);
  if (observed_.drained.contains(key)) {
    return {.outcome = Outcome::kUnchanged,
            .message = key_text(key) + " is drained already",
            .revision = highest_revision_};
  }
  std::set<model::BackendKey> drained = observed_.drained;
  drained.insert(key);
  return set_drained(key, std::move(drained));
}

api::ChangeResult Reconciler::undrain(const model::BackendKey &key) {
  const model::BackendSpec *backend = find_backend(key);
  if (backend == nullptr) return no_such_backend(key);
  if (backend->drain) {
    return {.outcome = Outcome::kConflict,
            .message = fmt::format(
                "{} is drained by the configuration; take \"drain: true\" or \"weight: 0\" out of {} "
                "and reload",
                key_text(key), config_path_.native())};
  }
  if (!observed_.drained.contains(key)) {
    return {.outcome = Outcome::kUnchanged,
            .message = key_text(key) + " is not drained",
            .revision = highest_revision_};
  }
  std::set<model::BackendKey> drained = observed_.drained;
  drained.erase(key);
  return set_drained(key, std::move(drained));
}

// Applies and keeps another set of drained backends; nothing of it when it cannot be kept.
api::ChangeResult Reconciler::set_drained(const model::BackendKey &key, std::set<model::BackendKey> drained) {
  const Status saved = store_.save_drained(drained);
  if (!saved.ok()) return {.outcome = Outcome::kRefused, .message = saved.error().message};
  model::ObservedState next = observed_;
  next.drained = std::move(drained);
  api::ChangeResult applied = apply(desired_, next);
  if (applied.outcome == Outcome::kRefused) {
    const Status restored = store_.save_drained(observed_.drained);
    if (!restored.ok()) spdlog::error("{}", restored.error().message);
    return applied;
  }
  spdlog::info("backend {} {} by the operator", key_text(key),
               next.drained.contains(key) ? "drained" : "undrained");
  observed_ = std::move(next);
  return applied;
}

}  // namespace sluice
