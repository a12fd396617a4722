#include "controlplane/model/identifiers.h"

#include <algorithm>
#include <utility>

#include "controlplane/model/pool_timeouts.h"

namespace sluice::model {
namespace {

constexpr uint32_t kFirstBackendId = 1;  // 0 means "none"
// For so long a freed backend identifier is not given again: workers sweep entries that name nobody
// within about a minute, and until then such an entry would pass for the new backend's.
constexpr uint64_t kIdentifierRestS = 300;

// The lowest identifiers that nobody has, in ascending order, one at a time. Those that should rest
// come last.
class FreeIdentifiers {
 public:
  FreeIdentifiers(uint32_t first, uint32_t end) : first_(first), next_(first), taken_(end, false) {}

  void take(uint32_t id) { taken_[id] = true; }

  void rest(uint32_t id) {
    if (taken_[id]) return;
    taken_[id] = true;
    resting_.push_back(id);
  }

  std::optional<uint32_t> lowest() {
    while (next_ < taken_.size() && taken_[next_]) ++next_;
    if (next_ < taken_.size()) return next_++;
    if (resting_.empty()) return std::nullopt;
    for (const uint32_t id : resting_) taken_[id] = false;
    resting_.clear();
    next_ = first_;
    return lowest();
  }

 private:
  uint32_t first_;
  uint32_t next_;
  std::vector<bool> taken_;
  std::vector<uint32_t> resting_;
};

Timeouts timeouts_of(const sluice::Backend &backend) {
  return {.embryonic = std::chrono::seconds(backend.embryonic_timeout_s),
          .established = std::chrono::seconds(backend.established_timeout_s),
          .closing = std::chrono::seconds(backend.closing_timeout_s),
          .udp = std::chrono::seconds(backend.udp_timeout_s)};
}

}  // namespace

Identifiers Identifiers::recover(const SnapshotView &snapshot) {
  Identifiers recovered;
  const auto services = snapshot.services();
  for (uint32_t id = 0; id < services.size(); ++id) {
    if (services[id].scheduler == 0) continue;
    recovered.services_.emplace(snapshot.text(services[id].name), id);
  }
  const auto backends = snapshot.backends();
  const uint64_t created_unix_s = snapshot.header().created_unix_ns / 1'000'000'000;
  const auto given = static_cast<uint32_t>(
      std::clamp<size_t>(snapshot.header().next_backend_identifier, backends.size(), kMaxBackends));
  recovered.next_backend_id_ = std::max(given, kFirstBackendId);
  for (uint32_t id = kFirstBackendId; id < given; ++id) {
    if (id >= backends.size() || backends[id].state == kBackendUnused) {
      // Perhaps freed by this very snapshot.
      recovered.resting_.emplace(static_cast<uint16_t>(id), created_unix_s + kIdentifierRestS);
      continue;
    }
    const sluice::Backend &backend = backends[id];
    BackendKey key{std::string(snapshot.text(backend.pool)), std::string(snapshot.text(backend.name))};
    const auto short_id = static_cast<uint16_t>(id);
    if (backend.removed != 0) {
      recovered.removed_.emplace(short_id, RemovedBackend{std::move(key), backend.address, short_id,
                                                          backend.out_since_unix_s, timeouts_of(backend)});
    } else {
      recovered.backends_.emplace(std::move(key),
                                  LiveBackend{backend.address, short_id, timeouts_of(backend)});
    }
  }
  for (const CheckSource &source : snapshot.check_sources()) {
    const auto pins = snapshot.pins().subspan(source.first_pin, source.pin_count);
    recovered.check_pins_.emplace(source.address, std::vector<uint16_t>(pins.begin(), pins.end()));
    if (pins.empty()) recovered.resting_sources_.emplace(source.address, created_unix_s + kIdentifierRestS);
  }
  uint32_t highest_number = 0;
  for (const Vip &vip : snapshot.vips()) {
    if (vip.number == 0) continue;
    recovered.vips_.emplace(vip.address, vip.number);
    highest_number = std::max(highest_number, vip.number);
  }
  recovered.next_vip_number_ = std::max(snapshot.header().next_vip_number, highest_number + 1);
  return recovered;
}

void Identifiers::keep_memory_of(const Identifiers &before) {
  next_vip_number_ = std::max(next_vip_number_, before.next_vip_number_);
  next_backend_id_ = std::max(next_backend_id_, before.next_backend_id_);
  // One that has an owner now does not rest, whatever was known of it: assign_backends sees to that.
  for (const auto &[id, until_unix_s] : before.resting_) {
    uint64_t &known_until_unix_s = resting_[id];
    known_until_unix_s = std::max(known_until_unix_s, until_unix_s);
  }
}

void Identifiers::follow_clock(int64_t step_s) {
  const auto moved = [step_s](uint64_t unix_s) {
    return static_cast<uint64_t>(std::max<int64_t>(0, static_cast<int64_t>(unix_s) + step_s));
  };
  for (auto &[id, removed] : removed_) removed.removed_unix_s = moved(removed.removed_unix_s);
  for (auto &[id, until_unix_s] : resting_) until_unix_s = moved(until_unix_s);
  for (auto &[source, until_unix_s] : resting_sources_) until_unix_s = moved(until_unix_s);
}

void Identifiers::give_up(const BackendKey &key, uint64_t now_unix_s) {
  const auto known = backends_.find(key);
  if (known == backends_.end()) return;
  resting_.emplace(known->second.id, now_unix_s + kIdentifierRestS);
  backends_.erase(known);
  backend_changes_++;
}

Status Identifiers::assign(const DesiredState &desired, uint64_t now_unix_s) {
  Identifiers next = *this;
  if (Status status = next.assign_services(desired); !status.ok()) return status;
  next.retire_backends(desired, now_unix_s);
  if (Status status = next.assign_backends(desired, now_unix_s); !status.ok()) return status;
  if (Status status = next.assign_pins(desired, now_unix_s); !status.ok()) return status;
  next.note_timeouts(desired);
  next.assign_vips(desired);
  *this = std::move(next);
  return Done{};
}

Status Identifiers::assign_services(const DesiredState &desired) {
  if (desired.services.size() > kMaxServices) {
    return Error{"services: " + std::to_string(desired.services.size()) + " are more than the " +
                 std::to_string(kMaxServices) + " that a snapshot can name; remove some"};
  }
  std::unordered_map<std::string, uint32_t> assigned;
  FreeIdentifiers free(0, kMaxServices);
  for (const Service &service : desired.services) {
    const auto known = services_.find(service.name);
    if (known == services_.end()) continue;
    assigned.insert(*known);
    free.take(known->second);
  }
  for (const Service &service : desired.services) {
    if (assigned.contains(service.name)) continue;
    assigned.emplace(service.name, free.lowest().value());
  }
  services_ = std::move(assigned);
  return Done{};
}

// Moves every backend that `desired` no longer has to the removed ones, and drops the removed ones
// whose time is over. A removed_unix_s in the future (the clock was set back) starts its time anew.
void Identifiers::retire_backends(const DesiredState &desired, uint64_t now_unix_s) {
  std::unordered_map<BackendKey, Address> wanted;
  for (const Pool &pool : desired.pools) {
    for (const BackendSpec &backend : pool.backends) {
      wanted.emplace(BackendKey{pool.name, backend.name}, backend.address);
    }
  }
  for (auto live = backends_.begin(); live != backends_.end();) {
    const auto found = wanted.find(live->first);
    if (found != wanted.end() && found->second == live->second.address) {
      ++live;
      continue;
    }
    removed_.emplace(live->second.id, RemovedBackend{live->first, live->second.address, live->second.id,
                                                     now_unix_s, live->second.timeouts});
    live = backends_.erase(live);
    backend_changes_++;
  }
  const auto grace_s = static_cast<uint64_t>(desired.removed_backend_grace.count());
  for (auto &[id, removed] : removed_) removed.removed_unix_s = std::min(removed.removed_unix_s, now_unix_s);
  std::erase_if(resting_, [&](const auto &entry) { return entry.second <= now_unix_s; });
  std::erase_if(removed_, [&](const auto &entry) {
    const bool over = now_unix_s - entry.second.removed_unix_s >= grace_s;
    if (over) resting_[entry.first] = now_unix_s + kIdentifierRestS;
    return over;
  });
}

Status Identifiers::assign_backends(const DesiredState &desired, uint64_t now_unix_s) {
  std::map<std::pair<BackendKey, Address>, uint16_t> revivable;
  for (const auto &[id, removed] : removed_) revivable[{removed.key, removed.address}] = id;

  std::vector<std::pair<BackendKey, Address>> unnamed;
  for (const Pool &pool : desired.pools) {
    for (const BackendSpec &backend : pool.backends) {
      BackendKey key{pool.name, backend.name};
      if (backends_.contains(key)) continue;
      const auto revived = revivable.empty() ? revivable.end() : revivable.find({key, backend.address});
      if (revived == revivable.end()) {
        unnamed.emplace_back(std::move(key), backend.address);
        continue;
      }
      removed_.erase(revived->second);
      backends_.emplace(std::move(key), LiveBackend{backend.address, revived->second, {}});
      backend_changes_++;
    }
  }
  const size_t room = kMaxBackends - kFirstBackendId;
  if (backends_.size() + unnamed.size() > room) {
    return Error{"pools: " + std::to_string(backends_.size() + unnamed.size()) +
                 " backends are more than the " + std::to_string(room) +
                 " that a snapshot can name; remove some"};
  }
  make_room(room - backends_.size() - unnamed.size(), now_unix_s);

  FreeIdentifiers free(kFirstBackendId, kMaxBackends);
  for (const auto &[key, live] : backends_) free.take(live.id);
  for (const auto &[id, removed] : removed_) free.take(id);
  for (const auto &[id, until_unix_s] : resting_) free.rest(id);
  for (auto &[key, address] : unnamed) {
    const auto id = static_cast<uint16_t>(free.lowest().value());
    backends_.emplace(std::move(key), LiveBackend{address, id, {}});
    backend_changes_++;
    next_backend_id_ = std::max(next_backend_id_, uint32_t{id} + 1);
  }
  return Done{};
}

// Drops the longest removed backends until at most `limit` are left.
void Identifiers::make_room(size_t limit, uint64_t now_unix_s) {
  if (removed_.size() <= limit) return;
  std::vector<std::pair<uint64_t, uint16_t>> oldest_first;
  for (const auto &[id, removed] : removed_) oldest_first.emplace_back(removed.removed_unix_s, id);
  std::ranges::sort(oldest_first);
  oldest_first.resize(removed_.size() - limit);
  for (const auto &[removed_unix_s, id] : oldest_first) {
    removed_.erase(id);
    resting_[id] = now_unix_s + kIdentifierRestS;
  }
}

void Identifiers::note_timeouts(const DesiredState &desired) {
  const auto by_pool = longest_timeouts_by_pool(desired);
  for (auto &[key, live] : backends_) {
    const auto found = by_pool.find(key.pool);
    live.timeouts = found == by_pool.end() ? Timeouts{} : found->second;
  }
}

Status Identifiers::assign_pins(const DesiredState &desired, uint64_t now_unix_s) {
  std::vector<CheckedThrough> checked;
  for (const Pool &pool : desired.pools) {
    if (!pool.health.vip) continue;
    for (const BackendSpec &backend : pool.backends)
      checked.push_back({check_source(pool), backends_.at({pool.name, backend.name}).id});
  }
  Result<CheckPins> pins = assign_check_pins(check_pins_, checked);
  if (!pins.ok()) return pins.error();
  check_pins_ = std::move(pins).value();
  for (const auto &[source, of_source] : check_pins_) {
    if (of_source.empty()) {
      resting_sources_.try_emplace(source, now_unix_s + kIdentifierRestS);
    } else {
      resting_sources_.erase(source);
    }
  }
  std::erase_if(resting_sources_, [&](const auto &each) {
    const bool is_over = each.second <= now_unix_s;
    if (is_over) check_pins_.erase(each.first);
    return is_over || !check_pins_.contains(each.first);
  });
  return Done{};
}

void Identifiers::assign_vips(const DesiredState &desired) {
  std::map<Address, uint32_t> assigned;
  for (const Service &service : desired.services) {
    for (const Address &address : service.vips) {
      const auto [entry, is_new] = assigned.emplace(address, 0);
      if (!is_new) continue;
      const auto known = vips_.find(address);
      entry->second = known != vips_.end() ? known->second : next_vip_number_++;
    }
  }
  vips_ = std::move(assigned);
}

std::optional<uint32_t> Identifiers::service_id(const std::string &name) const {
  const auto found = services_.find(name);
  return found == services_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<uint16_t> Identifiers::backend_id(const BackendKey &key) const {
  const auto found = backends_.find(key);
  return found == backends_.end() ? std::nullopt : std::optional(found->second.id);
}

std::optional<uint32_t> Identifiers::vip_number(const Address &address) const {
  const auto found = vips_.find(address);
  return found == vips_.end() ? std::nullopt : std::optional(found->second);
}

ObservedState recover_observed_state(const SnapshotView &snapshot) {
  ObservedState observed;
  for (const sluice::Backend &backend : snapshot.backends()) {
    if (backend.removed != 0) continue;
    const bool is_up = backend.state == kBackendUp && backend.failed_open == 0;
    const bool is_down = backend.state == kBackendDown || backend.failed_open != 0;
    const bool is_out = backend.out_since_unix_s != 0;
    if (!is_up && !is_down && !is_out) continue;
    BackendKey key{std::string(snapshot.text(backend.pool)), std::string(snapshot.text(backend.name))};
    BackendCondition &condition = observed.backends[std::move(key)];
    if (is_up || is_down) condition.health = is_up ? Health::kUp : Health::kDown;
    if (is_out) condition.drained_since_unix_s = static_cast<int64_t>(backend.out_since_unix_s);
    condition.serving = is_up;
    if (backend.ramp_step != 0) condition.ramp_step = backend.ramp_step;
  }
  for (const sluice::Service &service : snapshot.services()) {
    if (service.scheduler != 0 && service.below_quorum != 0)
      observed.below_quorum.emplace(snapshot.text(service.name));
  }
  return observed;
}

}  // namespace sluice::model
