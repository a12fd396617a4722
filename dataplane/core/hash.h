// Keyed hashes of flows and addresses: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: Fast and
// Secure Message Authentication", CRYPTO 1999; RFC 4418 section 5.2), which for two different inputs
// collides with probability 2^-32 over the key, then a bijective mix that spreads it over all bits.
// It needs nothing but 64-bit multiplies, which every engine has.
#ifndef SLUICE_CORE_HASH_H
#define SLUICE_CORE_HASH_H

#include "dataplane/abi/snapshot.h"

SLUICE_NAMESPACE_BEGIN

// As on the wire of a packet to the VIP. Written and read as one word: two narrow stores do not reach a
// wider load that soon follows, and stall it.
struct Ports {
  union {
    struct {
      be16 client;
      be16 vip;
    };
    uint32_t word;
  };
};

SLUICE_INLINE struct Ports ports_of_word(uint32_t word) {
  struct Ports ports;
  ports.word = word;
  return ports;
}

// The client's port in host order.
SLUICE_INLINE uint16_t client_port_of(struct Ports ports) {
  return be16_to_host((be16)(ports.word & 0xffff));
}

// The VIP's port in host order.
SLUICE_INLINE uint16_t vip_port_of(struct Ports ports) { return be16_to_host((be16)(ports.word >> 16)); }

// One term of NH: the product of two 32-bit words, each moved by its word of the key.
SLUICE_INLINE uint64_t nh_pair(uint32_t a, uint32_t key_a, uint32_t b, uint32_t key_b) {
  return (uint64_t)(uint32_t)(a + key_a) * (uint32_t)(b + key_b);
}

// Spreads a sum of NH over all 64 bits, one-to-one: high bits into low ones, a multiplication by
// 2^64 / golden ratio (Knuth, TAOCP 3, section 6.4), then high bits into low ones and low ones into
// high ones. The shifts are not 32, since users xor the two halves: that would undo them.
SLUICE_INLINE uint64_t mix_bits(uint64_t value) {
  value = (value ^ (value >> 32)) * 0x9e3779b97f4a7c15ull;
  value ^= value >> 28;
  return value ^ (value << 35);
}

// Hash of a whole flow key; protocol is the IP protocol number. The same on
// every engine and, with the same key, on every host of a fleet. All 64 bits may be used.
SLUICE_INLINE uint64_t flow_hash(const struct FlowHashKey *key, const struct Address *client,
                                 const struct Address *vip, struct Ports ports, uint8_t protocol) {
  const uint32_t *k = key->word;
  uint64_t sum =
      nh_pair(client->word[3], k[0], vip->word[3], k[1]) + nh_pair(ports.word, k[2], protocol, k[3]);
  if (!address_is_ipv4(vip)) {
    sum += nh_pair(client->word[0], k[4], client->word[1], k[5]);
    sum += nh_pair(client->word[2], k[6], vip->word[0], k[7]);
    sum += nh_pair(vip->word[1], k[8], vip->word[2], k[9]);
  }
  return mix_bits(sum);
}

// Where a VIP's lookup starts: index = vip_hash & SnapshotHeader::vip_mask, then linear probing.
SLUICE_INLINE uint32_t vip_hash(const struct FlowHashKey *key, const struct Address *address) {
  const uint32_t *k = key->word;
  uint64_t sum = nh_pair(address->word[0], k[4], address->word[1], k[5]) +
                 nh_pair(address->word[2], k[10], address->word[3], k[11]);
  return (uint32_t)(mix_bits(sum) >> 32);
}

// A number in [0, count), evenly, from 32 bits of a hash, without a division (Lemire, "Fast random
// integer generation in an interval", ACM TOMACS 2019).
SLUICE_INLINE uint32_t hash_to_range(uint32_t hash, uint32_t count) {
  return (uint32_t)(((uint64_t)hash * count) >> 32);
}

SLUICE_NAMESPACE_END

#endif
