#include "tests/parity/packets.h"

#include <algorithm>

namespace sluice {
namespace {

Bytes random_bytes(Random *random, size_t size) {
  Bytes bytes(size);
  for (uint8_t &byte : bytes) byte = random->byte();
  return bytes;
}

/// Mostly little, sometimes what fills a packet.
size_t random_payload_size(Random *random, size_t longest) {
  if (random->chance(75)) return random->below(64);
  return random->below(random->chance(70) ? std::min<size_t>(longest, 1600) : longest);
}

uint8_t random_tcp_flags(Random *random) {
  if (random->chance(10)) return random->byte();
  return random->pick<uint8_t>({kTcpSyn, kTcpSyn, kTcpSyn, kTcpAck, kTcpAck, kTcpAck, kTcpAck,
                                kTcpFin | kTcpAck, kTcpRst, kTcpSyn | kTcpAck});
}

Segment transport_segment(Random *random, const WorldFlow &flow, size_t longest) {
  const Bytes payload(random_payload_size(random, longest), random->byte());
  if (flow.protocol == kProtocolUdp)
    return udp({.source_port = flow.client_port, .destination_port = flow.vip_port, .payload = payload});
  TcpFields fields = {.source_port = flow.client_port,
                      .destination_port = flow.vip_port,
                      .flags = random_tcp_flags(random),
                      .payload = payload};
  if (random->chance(10)) {
    fields.data_offset = static_cast<uint8_t>(random->between(6, 15));
    fields.options = Bytes((fields.data_offset - 5u) * 4, 1);
  }
  if (random->chance(3)) fields.data_offset = static_cast<uint8_t>(random->below(16));
  return tcp(fields);
}

/// The head of a packet of the flow from the VIP to its client, as a router quotes it.
Bytes quoted_packet(Random *random, const WorldFlow &flow) {
  const bool odd = random->chance(15);
  const Segment segment =
      flow.protocol == kProtocolTcp
          ? tcp({.source_port = flow.vip_port, .destination_port = flow.client_port, .payload = Bytes(64)})
          : udp({.source_port = flow.vip_port, .destination_port = flow.client_port, .payload = Bytes(64)});
  Segment carried = segment;
  if (odd && random->chance(30)) carried.protocol = random->byte();
  Bytes packet;
  if (flow.family == kFamilyIpv4) {
    Ipv4Fields fields = {.source = flow.vip, .destination = flow.client};
    if (random->chance(15)) fields.options = Bytes(4 * random->between(1, 10), 1);
    if (odd && random->chance(30)) fields.fragment = static_cast<uint16_t>(random->word());
    if (odd && random->chance(30)) fields.version_ihl = random->byte();
    if (odd && random->chance(30)) fields.source = "203.0.113.99";
    packet = ipv4(fields, carried);
  } else {
    Ipv6Fields fields = {.source = flow.vip, .destination = flow.client};
    if (odd && random->chance(30)) fields.source = "2001:db8:f::99";
    packet = ipv6(fields, carried);
  }
  if (random->chance(40)) packet.resize(random->below(packet.size() + 1));
  return packet;
}

Segment icmp_segment(Random *random, const WorldFlow &flow) {
  const bool ipv4_quoted = flow.family == kFamilyIpv4;
  const uint8_t error =
      ipv4_quoted ? random->pick<uint8_t>({3, 3, 11, 12}) : static_cast<uint8_t>(random->between(1, 4));
  const uint8_t type = random->chance(85) ? error : random->byte();
  const auto code = static_cast<uint8_t>(random->below(16));
  const Bytes quoted = quoted_packet(random, flow);
  // Seldom, the one of the other family, which belongs to nobody.
  return ipv4_quoted != random->chance(3) ? icmp(type, code, quoted) : icmpv6(type, code, quoted);
}

Segment random_segment(Random *random, const WorldFlow &flow, size_t longest) {
  const uint32_t kind = random->below(100);
  if (kind < 80) return transport_segment(random, flow, longest);
  if (kind < 95) return icmp_segment(random, flow);
  return raw_segment(random->byte(), random_bytes(random, random->below(80)));
}

/// Where it comes from: the flow's client, or what is no single host's address.
std::string random_source(Random *random, const WorldFlow &flow) {
  if (random->chance(96)) return flow.client;
  if (flow.family == kFamilyIpv4)
    return random->pick<const char *>(
        {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "203.0.113.1"});
  return random->pick<const char *>({"::", "::1", "ff02::1", "::ffff:10.0.0.1", "2001:db8:f::1"});
}

std::string random_destination(Random *random, const WorldFlow &flow) {
  if (random->chance(96)) return flow.vip;
  if (flow.family == kFamilyIpv4) return random->pick<const char *>({"203.0.113.7", "198.51.100.77"});
  return random->pick<const char *>({"2001:db8:f::7", "::ffff:198.51.100.1", "ff02::1"});
}

uint8_t random_hop_limit(Random *random) {
  return static_cast<uint8_t>(random->chance(95) ? 64 : random->pick({0, 1, 2, 255}));
}

Bytes ipv4_packet(Random *random, const WorldFlow &flow, const Segment &segment) {
  Ipv4Fields fields = {.source = random_source(random, flow),
                       .destination = random_destination(random, flow),
                       .traffic_class = random->chance(20) ? random->byte() : uint8_t{0},
                       .id = static_cast<uint16_t>(random->word()),
                       .ttl = random_hop_limit(random)};
  if (random->chance(15)) fields.fragment = 0;      // may be fragmented
  if (random->chance(3)) fields.fragment = 0x2000;  // a first fragment
  if (random->chance(3)) fields.fragment = static_cast<uint16_t>(random->word());
  if (random->chance(6)) fields.options = Bytes(4 * random->between(1, 10), 1);
  if (random->chance(1)) fields.version_ihl = random->byte();
  if (random->chance(1)) fields.total_length = static_cast<uint16_t>(random->below(100));
  return ipv4(fields, segment);
}

std::vector<ExtensionHeader> random_extensions(Random *random) {
  std::vector<ExtensionHeader> headers;
  if (random->chance(85)) return headers;
  for (uint32_t count = random->between(1, random->chance(80) ? 3 : 8); count > 0; count--) {
    const uint8_t kind = random->pick<uint8_t>({kProtocolHopByHop, kProtocolRouting, kProtocolFragment,
                                                kProtocolAuthentication, kProtocolDestinationOptions});
    if (kind == kProtocolFragment) {
      const auto offset = static_cast<uint16_t>(random->chance(70) ? 0 : random->below(8192));
      headers.push_back(fragment_header(offset, static_cast<uint8_t>(random->below(2))));
    } else if (kind == kProtocolAuthentication) {
      // In words of four bytes, less two; 8-byte steps are what the builder makes.
      ExtensionHeader header = extension(kind, static_cast<uint8_t>(random->between(1, 3)));
      header.rest[0] = static_cast<uint8_t>((header.rest.size() + 1) / 4 - 2);
      headers.push_back(header);
    } else {
      headers.push_back(
          extension(kind, static_cast<uint8_t>(random->chance(90) ? random->below(4) : random->below(64))));
    }
  }
  return headers;
}

Bytes ipv6_packet(Random *random, const WorldFlow &flow, const Segment &segment) {
  Ipv6Fields fields = {.source = random_source(random, flow),
                       .destination = random_destination(random, flow),
                       .traffic_class = random->chance(20) ? random->byte() : uint8_t{0},
                       .hop_limit = random_hop_limit(random)};
  if (random->chance(1)) fields.version = static_cast<uint8_t>(random->below(16));
  if (random->chance(1)) fields.payload_length = static_cast<uint16_t>(random->below(100));
  return ipv6(fields, segment, random_extensions(random));
}

std::vector<VlanTag> random_tags(Random *random) {
  std::vector<VlanTag> tags;
  if (random->chance(85)) return tags;
  for (uint32_t count = random->chance(90) ? random->between(1, 2) : 3; count > 0; count--)
    tags.push_back(
        {random->pick<uint16_t>({kEtherTypeVlan, kEtherTypeQinq}), static_cast<uint16_t>(random->word())});
  return tags;
}

Bytes well_formed_frame(Random *random, const World &world, size_t longest) {
  const WorldFlow &flow = random->any_of(world.flows());
  const Segment segment = random_segment(random, flow, longest);
  const bool is_ipv4 = flow.family == kFamilyIpv4;
  const Bytes packet = is_ipv4 ? ipv4_packet(random, flow, segment) : ipv6_packet(random, flow, segment);
  uint16_t type = is_ipv4 ? kEtherTypeIpv4 : kEtherTypeIpv6;
  if (random->chance(1)) type = random->pick<uint16_t>({0x0806, 0x88cc, kEtherTypeIpv4, kEtherTypeIpv6});
  Bytes frame = ethernet(type, packet, random_tags(random));
  for (size_t i = 0; i < 12; i++) frame[i] = random->byte();
  return frame;
}

/// What links and bad senders do to a frame.
void spoil(Random *random, Bytes *frame) {
  if (random->chance(8)) *frame = *frame + random_bytes(random, random->below(60));  // link padding
  if (random->chance(5)) frame->resize(random->below(frame->size() + 1));            // cut short
  if (random->chance(6) && !frame->empty()) {
    // Headers, rather than payload.
    const size_t reach = std::min<size_t>(frame->size(), random->chance(80) ? 80 : frame->size());
    for (uint32_t flips = random->between(1, 4); flips > 0; flips--)
      (*frame)[random->below(reach)] ^= static_cast<uint8_t>(1u << random->below(8));
  }
}

}  // namespace

Bytes random_frame(Random *random, const World &world, size_t longest) {
  if (random->chance(1)) return random_bytes(random, random->below(1600));
  Bytes frame = well_formed_frame(random, world, longest);
  spoil(random, &frame);
  if (frame.size() > longest) frame.resize(longest);
  return frame;
}

}  // namespace sluice
