// Addresses and neighbours as keys of hash tables, and addresses within prefixes.
#ifndef SLUICE_SERVER_ADDRESS_KEYS_H
#define SLUICE_SERVER_ADDRESS_KEYS_H

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dataplane/abi/address.h"
#include "dataplane/core/hash.h"

namespace sluice {

inline uint64_t hash_words(const Address &address, uint64_t seed) {
  uint64_t sum = seed;
  for (const be32 word : address.word) sum = mix_bits(sum + word + 1);
  return sum;
}

struct AddressHash {
  size_t operator()(const Address &address) const { return hash_words(address, 0); }
};
struct AddressEqual {
  bool operator()(const Address &a, const Address &b) const { return address_equal(&a, &b); }
};

/// A neighbour, as the kernel tells them apart.
struct HopKey {
  uint32_t ifindex;
  Address address;
};
struct HopKeyHash {
  size_t operator()(const HopKey &key) const { return hash_words(key.address, key.ifindex); }
};
struct HopKeyEqual {
  bool operator()(const HopKey &a, const HopKey &b) const {
    return a.ifindex == b.ifindex && address_equal(&a.address, &b.address);
  }
};

/// Whether the first `bits` of both are equal.
inline bool within(const Address &address, const Address &prefix, uint32_t bits) {
  for (uint32_t word = 0; word < 4 && bits > word * 32; word++) {
    const uint32_t left = std::min(bits - word * 32, 32u);
    const uint32_t mask = left == 32 ? ~0u : ~(~0u >> left);
    if (((be32_to_host(address.word[word]) ^ be32_to_host(prefix.word[word])) & mask) != 0) return false;
  }
  return true;
}

}  // namespace sluice

#endif
