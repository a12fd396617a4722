// The snapshot: everything the operator and the health checks say about forwarding, as one
// position-independent block of flat arrays. sluiced compiles it, passes it as a sealed memfd, and
// the dataplane checks it whole (dataplane/server/snapshot_check) before a packet sees it.
//
//   SnapshotHeader | services | vips (hash table) | port ranges | backends | slots | strings |
//   check sources | pins
//
// Sections start at multiples of 64 bytes. Multi-byte integers are in host order unless typed be16/be32.
#ifndef SLUICE_ABI_SNAPSHOT_H
#define SLUICE_ABI_SNAPSHOT_H

#include "dataplane/abi/address.h"

SLUICE_NAMESPACE_BEGIN

#define SLUICE_SNAPSHOT_MAGIC 0x50414e5345434c53ull  // "SLCESNAP"
#define SLUICE_SNAPSHOT_VERSION 4u

enum SnapshotLimits {
  kMaxServices = 65536,
  kMaxBackends = 65536,          // identifiers 1 to 65535; 0 means "none"
  kMaxVipProbes = 8,             // the VIP table is built so that no lookup needs more
  kMaxPortRangesPerVip = 65536,  // per protocol, disjoint and sorted
  kMaxPortSearchSteps = 17,      // halvings that narrow 65,536 ranges down to one
  kMaxSlotsPerTable = 1 << 20,
  kMaxCheckSources = 16,
  kMaxPins = 65536,
  kMaxWeight = 1000,
  kRampSteps = 20  // of a slow start: equal parts of the weight
};

// Where a section is: `offset` bytes from the start of the snapshot, `count` records.
struct Section {
  uint64_t offset;
  uint32_t count;
  uint32_t record_size;  // bytes; a reader refuses a size that it does not know
};

// The key of the flow hash: configured, equal on every host of a fleet, unknown to clients.
struct FlowHashKey {
  uint32_t word[12];
};

struct SnapshotHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_size;  // bytes
  uint64_t total_size;   // bytes, this header included
  uint64_t checksum;     // snapshot_checksum() with this field as 0
  uint64_t revision;     // counts up with each publication
  uint64_t created_unix_ns;
  uint32_t next_vip_number;  // the next unused Vip::number: numbers are never given twice
  uint32_t vip_mask;         // entries in the VIP hash table - 1; a power of two
  // Every backend identifier that was ever given is below it, 1 to kMaxBackends: those below it that
  // nobody has now were freed, and connection entries may still name them for a while.
  uint32_t next_backend_identifier;
  uint32_t reserved;
  struct FlowHashKey flow_hash_key;
  struct Section services;
  struct Section vips;
  struct Section port_ranges;
  struct Section backends;
  struct Section slots;    // uint16_t backend identifiers
  struct Section strings;  // bytes, without terminators
  struct Section check_sources;
  struct Section pins;  // uint16_t backend identifiers; 0: none
};

struct StringRef {
  uint32_t offset;  // bytes from the start of the strings section
  uint32_t length;  // bytes
};

enum Scheduler { kSchedulerMaglev = 1, kSchedulerLeastConnection = 2 };

// One service; its index is its identifier, kept from snapshot to snapshot. An unused identifier has
// scheduler 0. Services that share a pool share its slots.
struct Service {
  uint32_t first_slot;
  uint32_t slot_count;             // 0: no backend takes new connections
  uint16_t embryonic_timeout_s;    // TCP: SYN seen, no ACK yet; UDP: one packet seen
  uint16_t established_timeout_s;  // TCP
  uint16_t closing_timeout_s;      // TCP: FIN or RST seen
  uint16_t udp_timeout_s;          // UDP: more than one packet seen
  uint8_t scheduler;               // enum Scheduler
  uint8_t below_quorum;            // 1: its slots are those that its quorum says
  uint8_t reserved[6];
  struct StringRef name;
};

// Timeouts are at most this many seconds, so that a 13-bit stamp of seconds can tell age from youth.
#define SLUICE_MAX_TIMEOUT_S 7260u

// One virtual address: an entry of the VIP hash table, open addressing with linear probing. An empty
// entry has number 0. Its TCP ranges are port_ranges[tcp_first, udp_first), its UDP ranges
// port_ranges[udp_first, udp_end), each run sorted by first_port and disjoint: the compiler has
// already let an exact port win over a range and a range over an all-port service.
struct Vip {
  struct Address address;
  uint32_t number;  // never 0, never reused: IPv6 connection entries name the VIP by it
  uint32_t tcp_first;
  uint32_t udp_first;
  uint32_t udp_end;
};

struct PortRange {
  uint16_t first_port;  // host order, inclusive
  uint16_t last_port;   // host order, inclusive
  uint32_t service;
};

enum BackendState {
  kBackendUnused = 0,
  kBackendUp = 1,        // takes new connections
  kBackendDraining = 2,  // keeps what it has, takes no new ones (also: removed from the configuration)
  kBackendDown = 3,      // failed its checks: takes no new ones, a new SYN is scheduled anew
  kBackendClosed = 4     // past its drain's deadline: keeps none either, their packets are scheduled anew
};

enum Forwarding { kForwardingIpip = 1 };

// One backend of one pool; its index is its identifier, kept from snapshot to snapshot, and not given
// to another backend while connections may still name it.
struct Backend {
  struct Address address;
  uint16_t weight;      // as scheduled now; 0 with every state but up
  uint8_t state;        // enum BackendState
  uint8_t forwarding;   // enum Forwarding
  uint8_t removed;      // 1: no longer in the configuration, kept for its connections
  uint8_t failed_open;  // 1: failed its checks, up because its whole pool failed and fails open
  uint8_t ramp_step;    // in a slow start: parts of kRampSteps that it has of its weight; 0: all of it
  uint8_t reserved;
  uint64_t out_since_unix_s;  // when it was removed, or its drain began; 0 otherwise
  // The longest timeouts of the services that use the pool: what a sweep expires an entry by, since
  // an entry names its backend and not its service.
  uint16_t embryonic_timeout_s;
  uint16_t established_timeout_s;
  uint16_t closing_timeout_s;
  uint16_t udp_timeout_s;
  struct StringRef pool;
  struct StringRef name;
};

// Whether entries that name the backend count for anything.
SLUICE_INLINE bool backend_keeps_connections(const struct Backend *backend) {
  return backend->state != kBackendUnused && backend->state != kBackendClosed;
}

// Health checks through the data path: a packet of such an address, from one of the ports of a pin, goes to
// the pin's backend whatever the scheduler says, and is entered nowhere. The address is one of this host's
// own, so no client has it. Ports kCheckPortsPerPin at a time belong to a pin, from kFirstCheckPort on: below
// those that kernels choose, and above those of most services.
enum CheckPorts {
  kFirstCheckPort = 16384,
  kCheckPorts = 16384,
  kCheckPortsPerPin = 4,
  kMaxPinsOfSource = kCheckPorts / kCheckPortsPerPin
};

struct CheckSource {
  struct Address address;
  uint32_t first_pin;
  uint32_t pin_count;
};

SLUICE_STATIC_ASSERT(sizeof(struct CheckSource) == 24, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct SnapshotHeader) == 240, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct Service) == 32, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct Vip) == 32, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct PortRange) == 8, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct Backend) == 56, "layout is part of the ABI");

#define SLUICE_SNAPSHOT_CHECKSUM_OFFSET 24u  // bytes: where SnapshotHeader::checksum is

// FNV-1a over 64-bit words (the snapshot's size is a multiple of 8), with the checksum's own word
// taken as 0. It guards against truncation and bit rot, not against an adversary. total_size in bytes.
SLUICE_INLINE uint64_t snapshot_checksum(const void *snapshot, uint64_t total_size) {
  const uint8_t *bytes = (const uint8_t *)snapshot;
  uint64_t lanes[4] = {0xcbf29ce484222325ull, 0x84222325cbf29ce4ull, 0x9ae16a3b2f90404full,
                       0xc3a5c85c97cb3127ull};
  for (uint64_t offset = 0; offset + 8 <= total_size; offset += 8) {
    uint64_t word = 0;
    if (offset != SLUICE_SNAPSHOT_CHECKSUM_OFFSET) __builtin_memcpy(&word, bytes + offset, 8);
    uint64_t *lane = &lanes[(offset >> 3) & 3];
    *lane = (*lane ^ word) * 0x100000001b3ull;
    *lane ^= *lane >> 29;
  }
  uint64_t sum = total_size;
  for (int i = 0; i < 4; i++) sum = (sum ^ lanes[i]) * 0x9ddfea08eb382d69ull;
  return sum ^ (sum >> 31);
}

SLUICE_NAMESPACE_END

#endif
