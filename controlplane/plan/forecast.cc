#include "controlplane/plan/forecast.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <tuple>
#include <utility>

#include <netinet/in.h>

#include "controlplane/publish/connection_reader.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

constexpr uint64_t kHashValues = uint64_t{1} << 32;  // that hash_to_range() spreads over the slots

using Slots = std::span<const uint16_t>;

// The first hash value that names slot `index` of `count`: the inverse of hash_to_range().
uint64_t first_hash_of(uint64_t index, uint64_t count) { return (index * kHashValues + count - 1) / count; }

// How many of all hash values had a backend, and have another one or none.
uint64_t moved_hashes(Slots before, Slots after) {
  if (before.empty()) return 0;
  if (after.empty()) return kHashValues;
  uint64_t moved = 0;
  size_t i = 0;
  size_t j = 0;
  uint64_t at = 0;
  while (at < kHashValues) {
    const uint64_t end_before = first_hash_of(i + 1, before.size());
    const uint64_t end_after = first_hash_of(j + 1, after.size());
    const uint64_t end = std::min(end_before, end_after);
    if (before[i] != 0 && before[i] != after[j]) moved += end - at;
    if (end == end_before) i++;
    if (end == end_after) j++;
    at = end;
  }
  return moved;
}

double moved_share(Slots before, Slots after) {
  if (before.size() != after.size() || before.empty())
    return static_cast<double>(moved_hashes(before, after)) / static_cast<double>(kHashValues);
  size_t moved = 0;
  for (size_t i = 0; i < before.size(); i++) moved += before[i] != 0 && before[i] != after[i];
  return static_cast<double>(moved) / static_cast<double>(before.size());
}

uint64_t hash_of(const ConnectionSighting &seen, const SnapshotView &snapshot) {
  Ports ports{};
  ports.client = host_to_be16(seen.client_port);
  ports.vip = host_to_be16(seen.vip_port);
  return flow_hash(&snapshot.header().flow_hash_key, &seen.client, &seen.vip, ports,
                   seen.udp ? IPPROTO_UDP : IPPROTO_TCP);
}

bool is_used(const Service &service) { return service.scheduler != 0; }

class Forecaster {
 public:
  explicit Forecaster(const ForecastInput &input) : in_(input) {}

  Forecast run() {
    compare_slots();
    if (in_.connections != nullptr) look_at_connections();
    return std::move(result_);
  }

 private:
  void compare_slots();
  void look_at_connections();
  void consider(const ConnectionSighting &seen);
  struct Copy {
    uint64_t hash;  // of the flow
    ConnectionSighting seen;
  };
  uint16_t backend_by(const SnapshotView &snapshot, const ConnectionSighting &seen) const;
  static uint16_t backend_of_hash(const SnapshotView &snapshot, const ConnectionSighting &seen,
                                  const Service &service);

  const ForecastInput &in_;
  Forecast result_;
  std::vector<size_t> places_;  // of each service in result_, by its identifier of before
};

// Services that share a pool share its slots: each pair of tables is compared once.
void Forecaster::compare_slots() {
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>, double> known;
  const bool is_key_new = std::memcmp(&in_.before.header().flow_hash_key, &in_.after.header().flow_hash_key,
                                      sizeof(FlowHashKey)) != 0;
  const auto before = in_.before.services();
  const auto after = in_.after.services();
  places_.resize(before.size());
  for (size_t id = 0; id < before.size(); id++) {
    if (!is_used(before[id])) continue;
    ServiceForecast of;
    of.service = in_.before.text(before[id].name);
    of.goes = id >= after.size() || !is_used(after[id]) || in_.after.text(after[id].name) != of.service;
    const Slots old_slots = in_.before.slots_of(before[id]);
    const Slots new_slots = of.goes ? Slots() : in_.after.slots_of(after[id]);
    of.slots = static_cast<uint32_t>(new_slots.size());
    const auto key = std::make_tuple(before[id].first_slot, before[id].slot_count,
                                     of.goes ? 0 : after[id].first_slot, of.slots);
    auto share = known.find(key);
    if (share == known.end()) share = known.emplace(key, moved_share(old_slots, new_slots)).first;
    of.moved = is_key_new && !old_slots.empty() ? 1 : share->second;  // another key spreads every flow anew
    if (in_.connections != nullptr) of.connections.emplace();
    places_[id] = result_.services.size();
    result_.services.push_back(std::move(of));
  }
}

// Workers copy what others know: a connection may be in several tables, of which the one that saw it last is
// right.
void Forecaster::look_at_connections() {
  const bool has_copies = in_.connections->header().table_count > 1;
  std::vector<Copy> copies;
  visit_connections(*in_.connections, in_.before, in_.boottime_s, 0, [&](const ConnectionSighting &seen) {
    if (seen.is_expired() || !seen.service_id) return;
    if (has_copies) {
      copies.push_back({hash_of(seen, in_.before), seen});
    } else {
      consider(seen);
    }
  });
  std::ranges::sort(copies, [](const Copy &a, const Copy &b) {
    if (a.hash != b.hash) return a.hash < b.hash;
    if (a.seen.idle_s != b.seen.idle_s) return a.seen.idle_s < b.seen.idle_s;
    return a.seen.state > b.seen.state;  // closing before established
  });
  for (size_t i = 0; i < copies.size(); i++)
    if (i == 0 || copies[i].hash != copies[i - 1].hash) consider(copies[i].seen);
}

void Forecaster::consider(const ConnectionSighting &seen) {
  if (seen.state != kConnectionEstablished && seen.state != kConnectionEmbryonic) return;
  // What is lost already is nothing that the change loses.
  if (backend_by(in_.before, seen) != seen.backend_id) return;
  ConnectionForecast &of = *result_.services[places_[*seen.service_id]].connections;
  of.live++;
  const uint16_t backend = backend_by(in_.after, seen);
  if (backend == 0) {
    of.broken++;
  } else if (backend != seen.backend_id) {
    of.moved++;
  } else if (in_.new_deadlines.contains(backend)) {
    of.until_deadline++;
  }
}

// As the dataplane decides by `snapshot` (dataplane/core/forward.h) for the next packet that opens nothing;
// 0: none.
uint16_t Forecaster::backend_by(const SnapshotView &snapshot, const ConnectionSighting &seen) const {
  const Vip *vip = snapshot.find_vip(seen.vip);
  if (vip == nullptr) return 0;
  using enum SnapshotView::Transport;
  const auto id = snapshot.find_service(*vip, seen.udp ? kUdp : kTcp, seen.vip_port);
  if (!id) return 0;
  const Vip *old_vip = in_.before.find_vip(seen.vip);
  // Entries of IPv6 name their VIP by its number.
  const bool is_found = address_is_ipv4(&seen.vip) || (old_vip != nullptr && old_vip->number == vip->number);
  const bool is_known = is_found && seen.backend_id < snapshot.backends().size() &&
                        backend_keeps_connections(&snapshot.backends()[seen.backend_id]);
  const bool begins_anew = is_known && seen.udp && snapshot.backends()[seen.backend_id].state == kBackendDown;
  return is_known && !begins_anew ? seen.backend_id
                                  : backend_of_hash(snapshot, seen, snapshot.services()[*id]);
}

uint16_t Forecaster::backend_of_hash(const SnapshotView &snapshot, const ConnectionSighting &seen,
                                     const Service &service) {
  const Slots slots = snapshot.slots_of(service);
  if (slots.empty()) return 0;
  return slots[hash_to_range(static_cast<uint32_t>(hash_of(seen, snapshot) >> 32), service.slot_count)];
}

}  // namespace

double Forecast::worst_moved() const {
  double worst = 0;
  for (const ServiceForecast &each : services) worst = std::max(worst, each.moved);
  return worst;
}

double Forecast::worst_broken() const {
  double worst = 0;
  for (const ServiceForecast &each : services) {
    if (!each.connections || each.connections->live == 0) continue;
    const auto gone = static_cast<double>(each.connections->moved + each.connections->broken);
    worst = std::max(worst, gone / static_cast<double>(each.connections->live));
  }
  return worst;
}

Forecast forecast(const ForecastInput &input) { return Forecaster(input).run(); }

}  // namespace sluice
