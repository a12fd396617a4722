// What the stages know of one packet: parse fills it, the later stages read it. One cache line.
#ifndef SLUICE_CORE_PACKET_H
#define SLUICE_CORE_PACKET_H

#include "dataplane/abi/address.h"
#include "dataplane/abi/verdict.h"
#include "dataplane/abi/wire.h"
#include "dataplane/core/bytes.h"
#include "dataplane/core/hash.h"

SLUICE_NAMESPACE_BEGIN

enum EtherType {
  kEtherTypeIpv4 = 0x0800,
  kEtherTypeIpv6 = 0x86dd,
  kEtherTypeVlan = 0x8100,
  kEtherTypeQinq = 0x88a8
};

// IANA protocol numbers.
enum IpProtocol {
  kProtocolHopByHop = 0,
  kProtocolIcmp = 1,
  kProtocolIpv4 = 4,
  kProtocolTcp = 6,
  kProtocolUdp = 17,
  kProtocolIpv6 = 41,
  kProtocolRouting = 43,
  kProtocolFragment = 44,
  kProtocolAuthentication = 51,
  kProtocolIcmpv6 = 58,
  kProtocolDestinationOptions = 60
};

// RFC 9293 section 3.1.
enum TcpFlags { kTcpFin = 0x01, kTcpSyn = 0x02, kTcpRst = 0x04, kTcpAck = 0x10 };

enum PacketFlags {
  kPacketIcmpError = 1,     // the key is that of the quoted packet, turned towards the VIP
  kPacketDontFragment = 2,  // IPv4 DF; always set for IPv6, which no router fragments
};

struct Packet {
  struct Address client;  // source of the flow; for an ICMP error, of the connection that it is about
  struct Address vip;
  uint64_t hash;  // flow_hash of the key; 0 where there are no ports
  struct Ports ports;
  uint16_t l3_offset;  // bytes from the frame's start to the IP header
  uint16_t l3_length;  // bytes of the IP packet, header included, link padding excluded
  uint16_t ipv4_id;    // as on the wire; 0 for IPv6
  uint8_t family;      // enum AddressFamily
  uint8_t protocol;    // of the flow: TCP or UDP
  uint8_t tcp_flags;
  uint8_t traffic_class;  // DSCP and ECN
  uint8_t hop_limit;
  uint8_t flags;       // enum PacketFlags
  uint8_t l4_verdict;  // what a VIP's packet ends with, or kVerdictUndecided; others go to the kernel
  uint8_t reserved[7];
};

SLUICE_STATIC_ASSERT(sizeof(struct Packet) == 64, "one cache line per packet of a burst");

// What find_service finds (service.h).
struct ServiceMatch {
  uint32_t vip_number;
  uint32_t service;  // identifier
};

SLUICE_NAMESPACE_END

#endif
