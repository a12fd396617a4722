// Holds of flap damping outlive sluiced: a restart must not let a backend serve that comes and goes.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kHoldStoreInterval{1};  // several changes in a second are stored once

}  // namespace

std::map<model::BackendKey, Reconciler::Hold> Reconciler::holds() const {
  std::map<model::BackendKey, Hold> holds;
  for (const model::BackendKey &key : restless_) {
    const model::BackendCondition &condition = observed_.condition_of(key);
    const std::optional<Member> member = find_member(key);
    if (!condition.held_until || !member) continue;
    const bool is_well = condition.health == model::Health::kUp;
    holds.emplace(key, Hold{member->backend.address, *condition.held_until, condition.held_for, is_well});
  }
  return holds;
}

// At a start. The snapshot has such a backend as down, also where its checks were fine.
void Reconciler::restore_holds() {
  const Result<StoredHolds> stored = store_.load_holds();
  if (!stored.ok()) return spdlog::error("{}; beginning without holds", stored.error().message);
  note_members();
  const Moment now = clock_.now();
  for (const auto &[key, hold] : stored.value()) {
    const std::optional<Member> member = find_member(key);
    if (!member || member->backend.address != hold.address) continue;
    if (!member->pool.flap_damping || !member->pool.health.checks()) continue;
    // A clock that was set meanwhile makes a hold no longer than a whole one.
    const auto left =
        std::min<int64_t>(hold.until_unix_s - now.unix_s, member->pool.flap_damping->hold.count());
    if (left <= 0) continue;
    model::BackendCondition &condition = observed_.backends[key];
    condition.held_until = now.steady + std::chrono::seconds(left);
    condition.held_for = hold.falls;
    if (hold.is_well) condition.health = model::Health::kUp;
  }
}

void Reconciler::keep_holds() {
  const Moment now = clock_.now();
  next_hold_store_ = now.steady + kHoldStoreInterval;
  std::map<model::BackendKey, Hold> current = holds();
  if (current == kept_holds_) return;
  StoredHolds stored;
  for (const auto &[key, hold] : current) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(hold.until - now.steady);
    stored.emplace(key, StoredHold{.address = hold.address,
                                   .until_unix_s = now.unix_s + left.count(),
                                   .falls = hold.falls,
                                   .is_well = hold.is_well});
  }
  const Status saved = store_.save_holds(stored);
  if (!saved.ok()) {
    spdlog::error("{}; a restart of sluiced would forget who is held down", saved.error().message);
    next_hold_store_ = now.steady + 10 * kHoldStoreInterval;
    return;
  }
  kept_holds_ = std::move(current);
}

}  // namespace sluice
