// What the operator orders at run time: drains and maintenance.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/discovery/merge.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr const char *kOrderDone[] = {"drained", "in maintenance"};  // by OrderKind

const char *done_text(model::OrderKind kind) { return kOrderDone[static_cast<size_t>(kind)]; }

api::ChangeResult no_such_backend(const model::BackendKey &key) {
  return {.outcome = api::ChangeResult::Outcome::kNotFound,
          .message = fmt::format("there is no backend \"{}\" in a pool \"{}\"; sluicectl backends (GET "
                                 "/v1/backends) lists them",
                                 key.name, key.pool)};
}

}  // namespace

api::ChangeResult Reconciler::drain(const model::BackendKey &key,
                                    std::optional<std::chrono::seconds> deadline, const api::Terms &terms) {
  return set_order(key, {.kind = model::OrderKind::kDrain, .deadline = deadline}, terms);
}

api::ChangeResult Reconciler::maintain(const model::BackendKey &key,
                                       std::optional<std::chrono::seconds> deadline,
                                       const api::Terms &terms) {
  return set_order(key, {.kind = model::OrderKind::kMaintenance, .deadline = deadline}, terms);
}

// The same order again changes nothing; another deadline, or the other kind, begins anew. Without a deadline
// there is nothing to begin: it goes on.
api::ChangeResult Reconciler::set_order(const model::BackendKey &key, const model::OperatorOrder &asked,
                                        const api::Terms &terms) {
  reconnect();
  const std::optional<Member> member = find_member(key);
  if (!member) return no_such_backend(key);
  model::OperatorOrder order = asked;
  if (!order.deadline) order.deadline = member->pool.drain_deadline;
  if (order.deadline == model::kNoDeadline) order.deadline.reset();
  order.since_unix_s = clock_.now().unix_s;
  if (member->order != nullptr && member->order->kind == order.kind && !order.deadline)
    order.since_unix_s = member->order->since_unix_s;
  if (member->order != nullptr && member->order->kind == order.kind &&
      member->order->deadline == order.deadline) {
    return unchanged(fmt::format("{} is {} already", key.text(), done_text(order.kind)));
  }
  OperatorOrders orders = observed_.orders;
  orders[key] = order;
  return apply_orders(key, std::move(orders), terms);
}

api::ChangeResult Reconciler::undrain(const model::BackendKey &key, const api::Terms &terms) {
  reconnect();
  const std::optional<Member> member = find_member(key);
  if (!member) return lift_of_absent(key, model::OrderKind::kDrain, terms);
  const bool was_ordered = member->order != nullptr;
  if (was_ordered && member->order->kind == model::OrderKind::kMaintenance) {
    return {.outcome = Outcome::kConflict,
            .message = fmt::format(
                "{0} is in maintenance, not drained; sluicectl maintenance --end {0} ends that", key.text())};
  }
  api::ChangeResult lifted;
  if (was_ordered) {
    lifted = lift_order(key, terms);
    if (lifted.is_nothing()) return lifted;
  }
  if (find_member(key)->backend.drain) {
    return {
        .outcome = Outcome::kConflict,
        .message = fmt::format(
            "{} is drained by the configuration{}; take \"drain: true\" or \"weight: 0\" out of {} "
            "and reload",
            key.text(), was_ordered ? " (the operator's own drain is lifted)" : "", config_path_.native())};
  }
  return was_ordered ? lifted : unchanged(key.text() + " is not drained");
}

api::ChangeResult Reconciler::end_maintenance(const model::BackendKey &key, const api::Terms &terms) {
  reconnect();
  const std::optional<Member> member = find_member(key);
  if (!member) return lift_of_absent(key, model::OrderKind::kMaintenance, terms);
  if (member->order == nullptr || member->order->kind != model::OrderKind::kMaintenance)
    return unchanged(key.text() + " is not in maintenance");
  return lift_order(key, terms);
}

// What a source finds may be away, and what was ordered of it still there.
api::ChangeResult Reconciler::lift_of_absent(const model::BackendKey &key, model::OrderKind kind,
                                             const api::Terms &terms) {
  const model::OperatorOrder *order = observed_.order_of(key);
  if (order == nullptr || order->kind != kind) return no_such_backend(key);
  return lift_order(key, terms);
}

api::ChangeResult Reconciler::lift_order(const model::BackendKey &key, const api::Terms &terms) {
  OperatorOrders orders = observed_.orders;
  orders.erase(key);
  return apply_orders(key, std::move(orders), terms);
}

// That there is nothing to do is no promise that the dataplane has what was done before.
api::ChangeResult Reconciler::unchanged(const std::string &how) const {
  if (!pending_ && link_.connected()) {
    return {.outcome = Outcome::kUnchanged, .message = how, .snapshot = highest_revision_};
  }
  const std::string why = link_.connected() ? refusal_ : link_.state();
  return {.outcome = Outcome::kPending,
          .message = how + ", but not known to be in force: " + why,
          .snapshot = highest_revision_};
}

void Reconciler::keep_orders(const OperatorOrders &orders) {
  const Status saved = store_.save_orders(orders);
  if (!saved.ok())
    spdlog::error("{}; a restart would find other backends drained or in maintenance", saved.error().message);
}

// The dataplane takes what was ordered while it was away: deadlines count from now on. True: there are such.
bool Reconciler::begin_pending_orders(model::ObservedState *observed) const {
  bool any = false;
  for (auto &[key, order] : observed->orders) {
    if (!order.is_pending) continue;
    any = true;
    order.is_pending = false;
    order.since_unix_s = clock_.now().unix_s;
    const auto condition = observed->backends.find(key);
    if (condition != observed->backends.end()) condition->second.drain.reset();
  }
  return any;
}

namespace {

// What a revision says of an order.
nlohmann::json order_json(const model::OperatorOrder *order) {
  if (order == nullptr) return nullptr;
  const char *kind = order->kind == model::OrderKind::kDrain ? "drain" : "maintenance";
  return order->deadline ? fmt::format("{}, deadline {} s", kind, order->deadline->count())
                         : std::string(kind);
}

std::string action_of(const model::OperatorOrder *before, const model::OperatorOrder *after) {
  const model::OperatorOrder &order = after != nullptr ? *after : *before;
  if (order.kind == model::OrderKind::kDrain) return after != nullptr ? "drain" : "undrain";
  return after != nullptr ? "maintenance" : "end-maintenance";
}

}  // namespace

// A change of an order or a weight has a number, too.
void Reconciler::note_order(const std::string &action, const model::BackendKey &key,
                            const nlohmann::json &before, const nlohmann::json &after,
                            const api::Terms &terms, api::ChangeResult *applied) {
  nlohmann::json change = {{"path", "orders/" + key.text()}};
  if (!before.is_null()) change["old"] = before;
  if (!after.is_null()) change["new"] = after;
  applied->changes = nlohmann::json::array({std::move(change)});
  if (applied->is_nothing()) return;
  const uint64_t snapshot = applied->outcome == Outcome::kApplied ? applied->snapshot : 0;
  applied->revision = history_.note({.action = action, .subject = key.text(), .changes = applied->changes},
                                    terms, snapshot, clock_.unix_ms());
}

// Applies and keeps another set of orders, which differs in `key`'s; nothing of it when it cannot be kept.
api::ChangeResult Reconciler::apply_orders(const model::BackendKey &key, OperatorOrders orders,
                                           const api::Terms &terms) {
  if (const auto ordered = orders.find(key); ordered != orders.end())
    ordered->second.is_pending = !link_.connected();
  model::ObservedState next = observed_;
  next.orders = std::move(orders);
  model::BackendCondition &condition = next.backends[key];
  condition.drain.reset();  // its deadline is reckoned anew
  condition.drained_since_unix_s.reset();
  const model::OperatorOrder *order = next.order_of(key);
  // Nobody has checked it meanwhile: what was known is old.
  const model::OperatorOrder *before = observed_.order_of(key);
  if (before != nullptr && before->kind == model::OrderKind::kMaintenance)
    condition.health = model::Health::kUnknown;
  if (!find_member(key)) next.backends.erase(key);
  const nlohmann::json before_json = order_json(before);
  const nlohmann::json after_json = order_json(order);
  const std::string action = action_of(before, order);
  std::optional<api::Plan> plan;
  if (std::optional<api::ChangeResult> not_made = look_ahead(desired_, next, terms, &plan)) {
    note_order(action, key, before_json, after_json, terms, &*not_made);
    return std::move(*not_made);
  }
  const Status saved = store_.save_orders(next.orders);
  if (!saved.ok()) return {.outcome = Outcome::kRefused, .message = saved.error().message};
  totals_.clear();  // counted before packets were decided by this
  next_count_ = {};
  api::ChangeResult applied = apply(desired_, &next);
  if (const auto ordered = next.orders.find(key);
      applied.outcome == Outcome::kPending && ordered != next.orders.end() && !ordered->second.is_pending) {
    ordered->second.is_pending = true;  // the dataplane went away with it
    keep_orders(next.orders);
  }
  if (applied.outcome == Outcome::kRefused) {
    keep_orders(observed_.orders);
    noted_ = true;  // what is in force and what is wanted agree again
    return applied;
  }
  spdlog::info("backend {}: {} by {}", key.text(),
               order == nullptr ? "drain or maintenance ended" : done_text(order->kind), terms.author);
  take_over(model::DesiredState(desired_), std::move(next), applied.outcome);
  set_targets();
  if (applied.outcome == Outcome::kUnchanged) {
    // Packets are decided as before: the order is another all the same.
    applied.outcome = Outcome::kApplied;
    applied.message = "in force";
  }
  applied.plan = std::move(plan);
  note_order(action, key, before_json, after_json, terms, &applied);
  return applied;
}

Result<model::DesiredState> Reconciler::wanted_state(const model::DesiredState &configured,
                                                     const FoundPools &found) const {
  return with_weights(with_found(configured, found), weights_);
}

// Instead of what the configuration and the sources say. A weight of 0 drains, as it does there.
Result<model::DesiredState> Reconciler::with_weights(Result<model::DesiredState> desired,
                                                     const OperatorWeights &weights) const {
  if (!desired.ok() || weights.empty()) return desired;
  for (model::Pool &pool : desired.value().pools) {
    for (model::BackendSpec &backend : pool.backends) {
      const auto given = weights.find({pool.name, backend.name});
      if (given == weights.end()) continue;
      backend.configured_weight = backend.weight;
      backend.weight = given->second;
      if (backend.weight == 0) backend.drain = true;
      if (*backend.configured_weight == 0) backend.drain = backend.weight == 0;
    }
  }
  return desired;
}

api::ChangeResult Reconciler::set_weight(const model::BackendKey &key, std::optional<uint16_t> weight,
                                         const api::Terms &terms) {
  reconnect();
  const std::optional<Member> member = find_member(key);
  if (!member && (weight || !weights_.contains(key))) return no_such_backend(key);
  OperatorWeights weights = weights_;
  const auto given = weights.find(key);
  const bool is_as_before =
      weight ? given != weights.end() && given->second == *weight : given == weights.end();
  if (is_as_before) return unchanged(key.text() + " has that weight already");
  const nlohmann::json before = member ? nlohmann::json(member->backend.weight) : nlohmann::json();
  if (weight) {
    weights[key] = *weight;
  } else {
    weights.erase(key);
  }
  Result<model::DesiredState> next = with_weights(with_found(configured_, used_found_), weights);
  if (!next.ok()) return {.outcome = Outcome::kRefused, .message = next.error().message};
  const nlohmann::json after = weight ? nlohmann::json(*weight) : nlohmann::json("as configured");
  std::optional<api::Plan> plan;
  if (auto not_made = look_ahead(next.value(), known_of(next.value()), terms, &plan)) {
    note_order("weight", key, before, after, terms, &*not_made);
    return std::move(*not_made);
  }
  if (const Status saved = store_.save_weights(weights); !saved.ok())
    return {.outcome = Outcome::kRefused, .message = saved.error().message};
  api::ChangeResult applied =
      change_members(std::move(next).value());  // keeps the weights of before to fall back to
  if (applied.outcome == Outcome::kRefused) {
    noted_ = true;
    const Status restored = store_.save_weights(weights_);
    if (!restored.ok()) spdlog::error("{}; a restart would find another weight", restored.error().message);
    return applied;
  }
  weights_ = std::move(weights);
  if (applied.outcome == Outcome::kUnchanged) applied.outcome = Outcome::kApplied;
  applied.plan = std::move(plan);
  note_order("weight", key, before, after, terms, &applied);
  return applied;
}

}  // namespace sluice
