// Byte-order types and the one address type: IPv4 is carried IPv4-mapped (RFC 4291 section 2.5.5.2),
// so that a table, a comparison or a hash needs no twin for the other family.
#ifndef SLUICE_ABI_ADDRESS_H
#define SLUICE_ABI_ADDRESS_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

typedef uint16_t be16;  // network byte order
typedef uint32_t be32;  // network byte order

SLUICE_INLINE uint16_t be16_to_host(be16 value) { return __builtin_bswap16(value); }
SLUICE_INLINE be16 host_to_be16(uint16_t value) { return __builtin_bswap16(value); }
SLUICE_INLINE uint32_t be32_to_host(be32 value) { return __builtin_bswap32(value); }
SLUICE_INLINE be32 host_to_be32(uint32_t value) { return __builtin_bswap32(value); }

enum AddressFamily { kFamilyIpv4 = 4, kFamilyIpv6 = 6 };

// 16 bytes in network order. IPv4 a.b.c.d is ::ffff:a.b.c.d.
struct __attribute__((aligned(8))) Address {
  be32 word[4];
};

// host_to_be32(0x0000ffff), as a constant that C and C++ both accept.
#define SLUICE_IPV4_MAPPED_WORD 0xffff0000u

SLUICE_INLINE struct Address address_from_ipv4(be32 ipv4) {
  struct Address address;
  address.word[0] = 0;
  address.word[1] = 0;
  address.word[2] = SLUICE_IPV4_MAPPED_WORD;
  address.word[3] = ipv4;
  return address;
}

// Half an address, words 0 and 1 or words 2 and 3, as one value to compare.
typedef uint64_t SLUICE_UNALIGNED AddressHalf;
SLUICE_INLINE uint64_t address_half(const struct Address *address, int half) {
  return ((const AddressHalf *)address)[half];
}

SLUICE_INLINE bool address_is_ipv4(const struct Address *address) {
  return (address_half(address, 0) | (address->word[2] ^ SLUICE_IPV4_MAPPED_WORD)) == 0;
}

SLUICE_INLINE bool address_equal(const struct Address *a, const struct Address *b) {
  return ((address_half(a, 0) ^ address_half(b, 0)) | (address_half(a, 1) ^ address_half(b, 1))) == 0;
}

SLUICE_STATIC_ASSERT(sizeof(struct Address) == 16, "Address is 16 bytes on every target");

SLUICE_NAMESPACE_END

#endif
