// A little world of tables and a sequence of packets, pauses, sweeps and changes of backends, all from
// the input: each packet gets a named verdict, what is forwarded or answered has the right size and
// nothing is written outside it, and the connection table stays consistent.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>

#include "tests/core/flows.h"

namespace {

using namespace sluice;  // NOLINT(google-build-using-namespace)

void require(bool condition) {
  if (!condition) __builtin_trap();
}

/// Hands out the input piece by piece; zeros when it is used up.
class Input {
 public:
  Input(const uint8_t *data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t byte() {
    if (size_ == 0) return 0;
    size_--;
    return *data_++;
  }
  Bytes bytes(size_t count) {
    count = count < size_ ? count : size_;
    Bytes taken(data_, data_ + count);
    data_ += count;
    size_ -= count;
    return taken;
  }

 private:
  const uint8_t *data_;
  size_t size_;
};

/// Good frames are built once: building them takes longer than deciding about them.
const Bytes &good_frame(const TestFlow &flow, uint8_t tcp_flags) {
  static std::map<uint64_t, Bytes> frames;
  const uint64_t key =
      uint64_t{flow.client} << 32 | uint64_t{flow.family} << 16 | uint64_t{flow.protocol} << 8 | tcp_flags;
  Bytes &frame = frames[key];
  if (frame.empty()) frame = frame_of_flow(flow, tcp_flags);
  return frame;
}

/// Backends of both families, a service of each scheduler, one without a backend; VIPs of both families.
SnapshotBuilder make_snapshot(uint8_t states) {
  SnapshotBuilder builder;
  const char *const addresses[] = {"10.1.0.11", "fd00:1::12", "10.1.0.13", "fd00:1::14"};
  std::vector<uint32_t> members;
  for (const char *address : addresses) members.push_back(builder.add_backend("pool", "b", address));
  std::vector<uint32_t> up;
  for (uint32_t i = 0; i < members.size(); i++) {
    const auto state = static_cast<BackendState>(states >> (2 * i) & 3);
    builder.set_state(members[i], state);
    if (state == kBackendUp) up.push_back(members[i]);
  }
  const uint32_t pool = builder.add_pool(up, up.empty() ? 0 : 31);
  const uint32_t web = builder.add_service("web", pool);
  const uint32_t dns = builder.add_service("dns", pool, kSchedulerLeastConnection);
  const uint32_t empty = builder.add_service("empty", builder.add_pool({}));
  builder.add_vip("198.51.100.10", {{80, 80, web}, {81, 81, empty}}, {{0, 65535, dns}});
  builder.add_vip("2001:db8::10", {{80, 80, web}, {8000, 8999, dns}}, {{53, 53, dns}});
  return builder;
}

const SnapshotBuilder &snapshot_of(uint8_t states) {
  static std::map<uint8_t, SnapshotBuilder> snapshots;
  const auto found = snapshots.find(states);
  return found != snapshots.end() ? found->second
                                  : snapshots.emplace(states, make_snapshot(states)).first->second;
}

class World {
 public:
  explicit World(Input *input)
      : own_(snapshot_of(0x55), 2u << (input->byte() & 3)),
        peer_(snapshot_of(0x55), static_cast<uint32_t>(own_.ipv4_buckets().size())),
        settings_(input->byte()) {
    if (settings_ & 1) own_.set_peers({&peer_});
    for (uint32_t &budget : own_.adoption_budgets) budget = settings_ & 2 ? 1000 : 2;
    if (settings_ & 4) set_mtus(1280);
  }

  void packet(const Bytes &frame) {
    // The frame in a block of its own size: what is read past it is seen.
    const auto copy = std::make_unique<uint8_t[]>(frame.size());
    if (!frame.empty()) std::memcpy(copy.get(), frame.data(), frame.size());
    const Frame view = {copy.get(), copy.get() + frame.size(), static_cast<uint32_t>(frame.size())};
    Packet packet;
    Decision decision;
    TestTables &tables = settings_ & 1 && (turn_++ & 1) ? peer_ : own_;
    decide(&tables.tables(), &view, now_s_, &packet, &decision);
    check(tables, frame, packet, decision);
  }

  void pause(uint32_t seconds) { now_s_ += seconds; }

  void sweep() {
    for (uint32_t i = 0; i < own_.ipv4_buckets().size(); i++)
      for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) sweep_bucket(&own_.tables(), family, i, now_s_);
  }

  void change_backends(uint8_t states) {
    const SnapshotBuilder &snapshot = snapshot_of(states);
    own_.use_snapshot(snapshot);
    peer_.use_snapshot(snapshot);
  }

  void check_tables() {
    require(inconsistency(own_).empty());
    require(inconsistency(peer_).empty());
  }

 private:
  void set_mtus(uint16_t mtu) {
    for (uint32_t backend = 1; backend <= 4; backend++) own_.egress(backend).outer_mtu = mtu;
  }

  static void check(const TestTables &tables, const Bytes &frame, const Packet &packet,
                    const Decision &decision) {
    require(decision.verdict < kVerdictCount);
    const VerdictClass verdict_kind = verdict_class(static_cast<Verdict>(decision.verdict));
    if (verdict_kind != kVerdictClassForward && verdict_kind != kVerdictClassReply) return;
    require(decision.backend != 0 && decision.backend < tables->backend_count);
    require(decision.egress == &tables->egress[decision.backend]);
    require(decision.service < tables->service_count);
    require(size_t{packet.l3_offset} + packet.l3_length <= frame.size());
    if (verdict_kind == kVerdictClassForward) {
      check_forwarded(frame, packet, *decision.egress);
    } else {
      check_answer(frame, packet, *decision.egress);
    }
  }

  static void check_forwarded(const Bytes &frame, const Packet &packet, const Egress &egress) {
    const size_t headers = kEthernetHeaderSize + egress.outer_size;
    require(headers - kEthernetHeaderSize + packet.l3_length <= egress.outer_mtu);
    const auto out = std::make_unique<uint8_t[]>(headers + packet.l3_length);
    std::memcpy(out.get() + headers, frame.data() + packet.l3_offset, packet.l3_length);
    encapsulate(out.get(), &egress, &packet);
    if (!(egress.flags & kEgressOuterIpv6)) {
      require(ones_complement_sum(out.get() + kEthernetHeaderSize, 20) == 0xffff);
    }
    // All but TTL and checksum of the inner packet is as it came.
    for (size_t i = 0; i < packet.l3_length; i++) {
      const bool changes = packet.family == kFamilyIpv4 ? i == 8 || i == 10 || i == 11 : i == 7;
      require(changes || out[headers + i] == frame[packet.l3_offset + i]);
    }
  }

  static void check_answer(const Bytes &frame, const Packet &packet, const Egress &egress) {
    const size_t growth = too_big_growth(&packet);
    const auto out = std::make_unique<uint8_t[]>(growth + frame.size());
    std::memcpy(out.get() + growth, frame.data(), frame.size());
    require(too_big_frame_size(&packet) <= growth + frame.size());
    write_too_big(out.get(), &egress, &packet);
  }

  TestTables own_;
  TestTables peer_;
  uint8_t settings_;
  uint32_t turn_ = 0;
  uint32_t now_s_ = 8100;  // stamps wrap soon
};

TestFlow flow_of(uint8_t number) {
  return {.family = static_cast<uint8_t>(number & 1 ? kFamilyIpv6 : kFamilyIpv4),
          .protocol = static_cast<uint8_t>(number & 2 ? kProtocolUdp : kProtocolTcp),
          .client = number / 4u};
}

/// The answer that a router sends about a packet from the VIP, cut to `quoted` bytes of it.
Bytes icmp_error_about(const TestFlow &flow, uint8_t type, size_t quoted) {
  const Bytes &forward = good_frame(flow, kTcpAck);
  Bytes inner(forward.begin() + 14, forward.end());
  const size_t address = flow.family == kFamilyIpv4 ? 12 : 8, size = flow.family == kFamilyIpv4 ? 4 : 16;
  std::swap_ranges(inner.begin() + address, inner.begin() + address + size, inner.begin() + address + size);
  inner.resize(std::min(inner.size(), quoted));
  return flow.family == kFamilyIpv4
             ? ethernet_ipv4(ipv4({.source = "203.0.113.1"}, icmp(type, 0, inner)))
             : ethernet_ipv6(ipv6({.source = "2001:db8:f::1"}, icmpv6(type, 0, inner)));
}

void step(World *world, Input *input) {
  const uint8_t operation = input->byte();
  switch (operation % 8) {
    case 0:
      world->pause(operation / 8u * 40u);
      break;
    case 1:
      operation & 8 ? world->sweep() : world->change_backends(input->byte());
      break;
    case 2:
      world->packet(input->bytes(input->byte() * 8u));
      break;
    case 3: {
      const TestFlow flow = flow_of(input->byte());
      world->packet(icmp_error_about(flow, static_cast<uint8_t>(operation / 8u), input->byte()));
      break;
    }
    case 4: {  // a good frame with changed bytes, longer or shorter
      Bytes frame = good_frame(flow_of(input->byte()), input->byte());
      for (uint8_t changes = operation / 64; changes > 0; changes--)
        frame[input->byte() % frame.size()] = input->byte();
      if (operation & 8) frame.resize(input->byte() * 8u);
      world->packet(frame);
      break;
    }
    default: {
      const TestFlow flow = flow_of(input->byte());
      const uint8_t flags[] = {kTcpSyn, kTcpAck, kTcpFin | kTcpAck, kTcpRst};
      world->packet(good_frame(flow, flags[operation / 8u % 4u]));
      break;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Input input(data, size);
  World world(&input);
  for (uint32_t steps = 0; !input.empty() && steps < 300; steps++) step(&world, &input);
  world.check_tables();
  return 0;
}
