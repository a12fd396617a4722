// What an entry of the connection table says by itself: its state word, without any table (connection.h has
// its layout). Shared by the stages and by the server, which looks at tables that have no worker.
#ifndef SLUICE_CORE_CONNECTION_ENTRY_H
#define SLUICE_CORE_CONNECTION_ENTRY_H

#include "dataplane/abi/connection.h"

SLUICE_NAMESPACE_BEGIN

#define SLUICE_STATE_KEY_MASK 0x1ffffffffull  // ports and protocol
#define SLUICE_STATE_STATE_SHIFT 33
#define SLUICE_STATE_STAMP_SHIFT 35
#define SLUICE_STATE_BACKEND_SHIFT 48

enum EntryLayout {
  kIpv4Width = 2,  // words per entry
  kIpv6Width = 4,
  kBucketWords = 8,
  kClockSkewS = 60  // how far a stamp may lie ahead
};

// Words per entry.
SLUICE_INLINE uint32_t width_of(uint8_t family) { return family == kFamilyIpv4 ? kIpv4Width : kIpv6Width; }

SLUICE_INLINE uint32_t state_of(uint64_t word) { return (uint32_t)(word >> SLUICE_STATE_STATE_SHIFT) & 3; }
SLUICE_INLINE uint16_t backend_of(uint64_t word) { return (uint16_t)(word >> SLUICE_STATE_BACKEND_SHIFT); }
SLUICE_INLINE bool is_udp(uint64_t word) { return (word >> 32) & 1; }

// Seconds since the entry was last seen, up to kStampMask. A stamp from just ahead of `now_s` is of now:
// another worker read the clock later than this one did for its burst.
SLUICE_INLINE uint32_t age_of(uint64_t word, uint32_t now_s) {
  uint32_t age_s = (now_s - (uint32_t)(word >> SLUICE_STATE_STAMP_SHIFT)) & kStampMask;
  return age_s + kClockSkewS > kStampMask ? 0 : age_s;
}

// Whether the entry is established and was last seen in this very second.
SLUICE_INLINE bool is_established_now(uint64_t word, uint32_t now_s) {
  uint32_t state_and_stamp = (uint32_t)(word >> SLUICE_STATE_STATE_SHIFT) & ((kStampMask << 2) | 3);
  return state_and_stamp == (((now_s & kStampMask) << 2) | kConnectionEstablished);
}

SLUICE_INLINE uint64_t make_state(uint64_t key, uint32_t state, uint32_t now_s, uint16_t backend) {
  return (key & SLUICE_STATE_KEY_MASK) | ((uint64_t)state << SLUICE_STATE_STATE_SHIFT) |
         ((uint64_t)(now_s & kStampMask) << SLUICE_STATE_STAMP_SHIFT) |
         ((uint64_t)backend << SLUICE_STATE_BACKEND_SHIFT);
}

// A flow as its entry would hold it, and where that entry can be.
struct ConnectionKey {
  uint64_t word[4];  // the entry, twice if it has two words; its last word has no state yet
  uint32_t bucket;   // first candidate
  uint32_t tag;      // other candidate: bucket ^ (tag & mask); odd, so that it is another one
  uint32_t width;    // words per entry
  uint8_t family;    // enum AddressFamily
};

enum { kMaxDisplacements = 24 };  // entries that a walk for room moves at most

// A chain of entries, each of which is to move to the place of the next; the last place is room.
struct DisplacementPath {
  uint32_t bucket[kMaxDisplacements + 1];
  uint8_t state[kMaxDisplacements + 1];  // index of the state word
  uint8_t reserved[3];
  uint32_t before;  // bucket that the next step must not lead back to
  uint32_t random;  // of the step's choice
};

SLUICE_NAMESPACE_END

#endif
