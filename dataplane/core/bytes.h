// Words in a packet's bytes, at any address, in the order in which they lie there.
#ifndef SLUICE_CORE_BYTES_H
#define SLUICE_CORE_BYTES_H

#include "dataplane/abi/address.h"

SLUICE_NAMESPACE_BEGIN

typedef uint16_t SLUICE_UNALIGNED UnalignedWord16;
typedef uint32_t SLUICE_UNALIGNED UnalignedWord32;
typedef uint64_t SLUICE_UNALIGNED UnalignedWord64;

SLUICE_INLINE be16 load_be16(const uint8_t *bytes) { return *(const UnalignedWord16 *)bytes; }
SLUICE_INLINE be32 load_be32(const uint8_t *bytes) { return *(const UnalignedWord32 *)bytes; }

SLUICE_INLINE struct Address load_ipv6_address(const uint8_t *bytes) {
  struct Address address;
  for (int half = 0; half < 2; half++)
    ((AddressHalf *)&address)[half] = ((const UnalignedWord64 *)bytes)[half];
  return address;
}

SLUICE_INLINE void store_be16(uint8_t *bytes, be16 value) { *(UnalignedWord16 *)bytes = value; }
SLUICE_INLINE void store_be32(uint8_t *bytes, be32 value) { *(UnalignedWord32 *)bytes = value; }

SLUICE_INLINE void store_ipv6_address(uint8_t *bytes, const struct Address *address) {
  for (int i = 0; i < 4; i++) store_be32(bytes + 4 * i, address->word[i]);
}

// `size` is a constant.
SLUICE_INLINE void copy_bytes(uint8_t *to, const uint8_t *from, uint32_t size) {
  SLUICE_UNROLL
  for (uint32_t i = 0; i < size / 8; i++) ((UnalignedWord64 *)to)[i] = ((const UnalignedWord64 *)from)[i];
  uint32_t done = size & ~7u;
  if (size & 4) store_be32(to + done, load_be32(from + done));
  done += size & 4;
  if (size & 2) store_be16(to + done, load_be16(from + done));
  done += size & 2;
  if (size & 1) to[done] = from[done];
}

SLUICE_NAMESPACE_END

#endif
