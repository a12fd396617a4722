#include "tests/parity/world.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "tests/core/test_tables.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

WorldShape random_shape(Random *random) {
  WorldShape shape;
  shape.workers = random->between(1, 2);
  shape.tables = shape.workers + (random->chance(30) ? random->between(1, 2) : 0);
  // Small ones fill up: entries are displaced, evicted, refused. Large ones seldom do.
  shape.ipv4_buckets = 2u << random->below(random->chance(70) ? 3 : 6);
  shape.ipv6_buckets = 2u << random->below(random->chance(70) ? 3 : 6);
  shape.buffers = random->chance(20) ? FrameBuffers::kSeveral : FrameBuffers::kOne;
  return shape;
}

/// Short ones run out while the world lasts, long ones do not.
uint16_t random_timeout_s(Random *random) {
  return static_cast<uint16_t>(random->chance(80) ? random->between(1, 40)
                                                  : random->between(100, SLUICE_MAX_TIMEOUT_S));
}

std::array<uint16_t, 4> random_timeouts_s(Random *random) {
  std::array<uint16_t, 4> timeouts = {};
  for (uint16_t &timeout : timeouts) timeout = random_timeout_s(random);
  return timeouts;
}

template <typename Record>
void set_timeouts(const std::array<uint16_t, 4> &timeouts_s, Record *record) {
  record->embryonic_timeout_s = timeouts_s[0];
  record->established_timeout_s = timeouts_s[1];
  record->closing_timeout_s = timeouts_s[2];
  record->udp_timeout_s = timeouts_s[3];
}

BackendState random_state(Random *random) {
  if (random->chance(65)) return kBackendUp;
  return random->pick({kBackendUnused, kBackendDraining, kBackendDown, kBackendClosed});
}

Bytes random_bytes(Random *random, size_t size) {
  Bytes bytes(size);
  for (uint8_t &byte : bytes) byte = random->byte();
  return bytes;
}

Egress random_egress(Random *random, const Backend &backend) {
  EgressFields fields;
  fields.backend = address_text(backend.address);
  fields.source_ipv4 = "10.0.0." + std::to_string(random->between(1, 9));
  fields.source_ipv6 = "fd00::" + std::to_string(random->between(1, 9));
  fields.ethernet = random_bytes(random, 12);
  // Of a real link, and smaller than any: down to where an answer hardly quotes enough.
  fields.mtu = random->pick<uint16_t>({1500, 1500, 1500, 9000, 1280, 576, 320, 288, 276, 68});
  fields.port = static_cast<uint16_t>(random->below(2));
  fields.weight = backend.weight;
  fields.flags = random->chance(92) ? kEgressReady : 0;
  if (backend_keeps_connections(&backend)) fields.flags |= kEgressKnown;
  if (backend.state == kBackendUp) fields.flags |= kEgressTakesNew;
  if (backend.state == kBackendDown) fields.flags |= kEgressDown;
  return make_egress(fields);
}

std::string numbered(const char *prefix, uint32_t number) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "%x", number);
  return prefix + std::string(digits);
}

}  // namespace

World::World(Random *random) : shape_(random_shape(random)) {
  for (uint32_t &word : flow_hash_key_.word) word = random->word();
  plan_backends(random);
  plan_services(random);
  plan_vips(random);
  plan_flows(random);
}

void World::plan_backends(Random *random) {
  const uint32_t count = random->between(2, 12);
  for (uint32_t i = 0; i < count; i++)
    backends_.push_back(random->chance(50) ? "10.1.0." + std::to_string(i + 1) : numbered("fd00:1::", i + 1));
}

void World::plan_services(Random *random) {
  const uint32_t pools = random->between(1, 4);
  for (uint32_t i = 0; i < pools; i++) {
    PoolPlan pool = {{}, random->chance(30) ? 0 : random->between(1, 97)};
    for (uint32_t backend = 1; backend <= backends_.size(); backend++)
      if (random->chance(60)) pool.members.push_back(backend);
    pools_.push_back(pool);
  }
  const uint32_t services = random->between(2, 8);
  for (uint32_t i = 0; i < services; i++)
    services_.push_back({random->below(pools),
                         random->chance(50) ? kSchedulerMaglev : kSchedulerLeastConnection,
                         random_timeouts_s(random)});
}

/// Nothing, one port, a range, all ports, or a mixture with gaps and without.
std::vector<PortRange> World::random_ranges(Random *random) const {
  const auto service = [&] { return random->below(services_.size()); };
  switch (random->chance(5) ? 0 : random->between(1, 5)) {
    case 0:
      return {};
    case 1:
      return {{80, 80, service()}};
    case 2:
      return {{80, 80, service()}, {443, 443, service()}, {8000, 8999, service()}};
    case 3:
      return {{0, 65535, service()}};
    case 4:
      return {{0, 79, service()}, {80, 80, service()}, {81, 65535, service()}};
    default: {
      std::vector<PortRange> ranges;
      for (uint32_t port = 0; port < 60000; port += random->between(1, 3000)) {
        const auto last = static_cast<uint16_t>(port + random->below(200));
        ranges.push_back({static_cast<uint16_t>(port), last, service()});
        port = last + 1u;
      }
      return ranges;
    }
  }
}

void World::plan_vips(Random *random) {
  for (uint32_t i = random->between(1, 4); i > 0; i--)
    vips_.push_back({"198.51.100." + std::to_string(i), random_ranges(random), random_ranges(random)});
  for (uint32_t i = random->between(1, 4); i > 0; i--)
    vips_.push_back({numbered("2001:db8::", i), random_ranges(random), random_ranges(random)});
}

void World::plan_flows(Random *random) {
  const uint32_t count = random->between(4, random->chance(50) ? 60 : 400);
  for (uint32_t i = 0; i < count; i++) {
    const VipPlan &vip = random->any_of(vips_);
    WorldFlow flow;
    flow.family = vip.address.find(':') == std::string::npos ? kFamilyIpv4 : kFamilyIpv6;
    flow.protocol = random->chance(70) ? kProtocolTcp : kProtocolUdp;
    flow.client = flow.family == kFamilyIpv4
                      ? "10.9." + std::to_string(i / 200) + "." + std::to_string(i % 200 + 1)
                      : numbered("2001:db8:c::", i + 1);
    flow.vip = vip.address;
    flow.client_port = static_cast<uint16_t>(random->word());
    const std::vector<PortRange> &ranges = flow.protocol == kProtocolTcp ? vip.tcp : vip.udp;
    if (ranges.empty() || random->chance(10)) {
      flow.vip_port = random->pick<uint16_t>({80, 81, 443, 8001, 0, 65535});
    } else {
      const PortRange &range = random->any_of(ranges);
      flow.vip_port = random->pick({range.first_port, range.last_port});
    }
    flows_.push_back(std::move(flow));
  }
}

void World::add_backends(Random *random, SnapshotBuilder *builder) const {
  // The section may end before the last ones: entries that name them name nobody then.
  const size_t count = random->chance(80) ? backends_.size() : 1 + random->below(backends_.size());
  for (size_t i = 0; i < count; i++) {
    const auto weight = static_cast<uint16_t>(random->chance(70) ? 100 : random->between(1, kMaxWeight));
    const uint32_t backend = builder->add_backend("pool", "backend", backends_[i], weight);
    builder->set_state(backend, random_state(random), weight);
    set_timeouts(random_timeouts_s(random), &builder->backend(backend));
  }
}

void World::add_services(Random *random, const std::vector<BackendState> &states,
                         SnapshotBuilder *builder) const {
  for (const PoolPlan &plan : pools_) {
    std::vector<uint32_t> up, others;
    for (const uint32_t member : plan.members) {
      if (member >= states.size() || states[member] == kBackendUnused || states[member] == kBackendClosed)
        continue;
      (states[member] == kBackendUp ? up : others).push_back(member);
    }
    if (up.empty() && random->chance(50)) up = others;  // the pool fails open
    builder->add_pool(up, plan.slots);
  }
  for (const ServicePlan &plan : services_) {
    const uint32_t service = builder->add_service("service", plan.pool, plan.scheduler);
    set_timeouts(plan.timeouts_s, &builder->service(service));
  }
}

ForwardingTables World::next_generation(Random *random) const {
  SnapshotBuilder builder;
  builder.flow_hash_key = flow_hash_key_;
  add_backends(random, &builder);
  std::vector<BackendState> states;
  for (uint32_t i = 0; i < builder.backend_count(); i++)
    states.push_back(static_cast<BackendState>(builder.backend(i).state));
  add_services(random, states, &builder);
  for (const VipPlan &vip : vips_)
    if (random->chance(95)) builder.add_vip(vip.address, vip.tcp, vip.udp);

  if (random->chance(50)) {  // some clients are sources of health checks
    std::vector<uint16_t> pins(kMaxPinsOfSource);
    for (size_t i = 0; i < pins.size(); i++) {
      const size_t backend = i % states.size();
      if (states[backend] != kBackendUnused) pins[i] = static_cast<uint16_t>(backend);
    }
    for (size_t i = 0; i < flows_.size() && i < kMaxCheckSources; i++)
      builder.add_check_source(flows_[i].client, pins);
  }

  std::vector<Egress> egress(builder.backend_count());
  for (uint32_t i = 1; i < egress.size(); i++) egress[i] = random_egress(random, builder.backend(i));
  return forwarding_tables(builder, egress);
}

}  // namespace sluice
