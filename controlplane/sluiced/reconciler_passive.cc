// Passive health: the dataplane's counts of what clients do are judged (client_watch.h), and the judgement
// becomes part of the backends' conditions.
#include <spdlog/spdlog.h>

#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kBlindInterval{5};

// Whether it takes new connections but for what its clients got.
bool would_serve(const Member &member, const model::BackendCondition &condition) {
  Standing standing = standing_of(member.pool, member.backend, member.order, condition);
  standing.ejected = false;
  return meaning_of(serving_state(standing)).takes_new;
}

void log_event(const std::string &backend, const ClientWatch::Event &event) {
  switch (event.kind) {
    case OutlierEvent::Kind::kEjected:
      return spdlog::warn("backend {} is ejected: {}", backend, event.text);
    case OutlierEvent::Kind::kSpared:
      return spdlog::warn("backend {}: {}", backend, event.text);
    case OutlierEvent::Kind::kProbing:
      return spdlog::info("backend {} is tried again with few connections: {}", backend, event.text);
    case OutlierEvent::Kind::kReturned:
      return spdlog::info("backend {} is back: {}", backend, event.text);
    case OutlierEvent::Kind::kAllFail:
      break;  // the pool's
  }
}

}  // namespace

void Reconciler::judge_clients() {
  if (clients_are_old_ || clients_changes_ != identifiers_->backend_changes()) watch_clients();
  if (!clients_.watches_anybody()) return blindness_.clear();
  const Clock::time_point now = Clock::now();
  if (now < next_sight_ && link_.connected()) return;
  const CounterView *counters = seen_counters(now);
  if (counters == nullptr && !link_.connected()) return;  // what is in force stays
  for (const ClientWatch::Event &event :
       counters == nullptr ? clients_.look_away(now) : clients_.look(*counters, now))
    note_client_event(event);
}

// nullptr: nothing can be seen. Then it is tried again, but not at every tick: it may cost a request.
const CounterView *Reconciler::seen_counters(OutlierTime now) {
  next_sight_ = {};
  if (!link_.connected()) {
    note_blindness("the dataplane is unreachable");
    return nullptr;
  }
  const Result<const CounterView *> counters = link_.counters();
  if (!counters.ok()) {
    note_blindness("the dataplane's counters cannot be read: " + counters.error().message);
    next_sight_ = now + kBlindInterval;
    return nullptr;
  }
  if (!blindness_.empty()) spdlog::info("passive health sees what clients do again");
  blindness_.clear();
  return counters.value();
}

void Reconciler::note_blindness(const std::string &why) {
  if (blindness_ == why) return;
  blindness_ = why;
  spdlog::warn("passive health sees nothing of clients and ejects nobody: {}", why);
}

void Reconciler::note_client_event(const ClientWatch::Event &event) {
  const model::Pool &pool = desired_.pools[event.place.pool];
  if (event.kind == OutlierEvent::Kind::kAllFail) return spdlog::warn("pool {}: {}", pool.name, event.text);
  const model::BackendKey key{pool.name, pool.backends[event.place.backend].name};
  log_event(key.text(), event);
  note_outlier(key, clients_.state(event.place));
}

// Whom to look at, by the configuration and the identifiers that are in force. What is known of a pool that
// stays stays known; what nobody watches any more is not ejected.
void Reconciler::watch_clients() {
  clients_are_old_ = false;
  clients_changes_ = identifiers_->backend_changes();
  clients_.watch(desired_, *identifiers_);
  for (size_t i = 0; i < desired_.pools.size(); i++) {
    const model::Pool &pool = desired_.pools[i];
    for (size_t j = 0; j < pool.backends.size(); j++) {
      const model::BackendKey key{pool.name, pool.backends[j].name};
      note_outlier(key, clients_.state({i, j}));
      if (pool.passive) note_standing(key);
    }
  }
}

// To be called whenever what its standing depends on may have changed.
void Reconciler::note_standing(const model::BackendKey &key) {
  const std::optional<Member> member = find_member(key);
  if (member && member->pool.passive)
    clients_.set_serves(places_.at(key), would_serve(*member, observed_.condition_of(key)));
}

void Reconciler::note_outlier(const model::BackendKey &key, OutlierState state) {
  const auto found = observed_.backends.find(key);
  if (found == observed_.backends.end()) return;
  model::BackendCondition &condition = found->second;
  const bool ejected = state == OutlierState::kEjected;
  const bool probing = state == OutlierState::kProbing;
  if (condition.ejected == ejected && condition.probing == probing) return;
  condition.ejected = ejected;
  condition.probing = probing;
  noted_ = true;
  settle(key);
}

std::string Reconciler::passive_text(const model::BackendKey &key) const {
  const auto place = places_.find(key);
  if (place == places_.end() || !clients_.is_watched(place->second)) return "";
  std::string text = clients_.text(place->second, Clock::now());
  if (blindness_.empty()) return text;
  std::string blind = "passive health sees nothing: " + blindness_;
  return text.empty() ? blind : text + "; " + blind;
}

}  // namespace sluice
