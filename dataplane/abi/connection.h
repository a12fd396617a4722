// The connection table's memory: one layout for every engine, readable by sluiced without a copy.
// A region is one ConnectionRegionHeader, then `table_count` tables, each ipv4_buckets buckets and
// then ipv6_buckets buckets. One table has one writer: its worker. Others read (see
// connection_entry_read in dataplane/core/connection.h for how a torn read is told).
#ifndef SLUICE_ABI_CONNECTION_H
#define SLUICE_ABI_CONNECTION_H

#include "dataplane/abi/address.h"

SLUICE_NAMESPACE_BEGIN

#define SLUICE_CONNECTION_MAGIC 0x4e4e4f4345434c53ull  // "SLCECONN"
// Also raised with SLUICE_SNAPSHOT_VERSION: entries name backends and VIPs by the numbers of snapshots.
#define SLUICE_CONNECTION_VERSION 4u

enum ConnectionLimits {
  kIpv4EntriesPerBucket = 4,
  kIpv6EntriesPerBucket = 2,
  kMaxConnectionTables = 64,
  kConnectionHeaderSize = 4096
};

// What an entry knows of its connection. Only packets towards the VIP are seen (direct return).
enum ConnectionState {
  kConnectionEmpty = 0,
  kConnectionEmbryonic = 1,    // TCP: SYN seen; UDP: one packet seen. First to be evicted.
  kConnectionEstablished = 2,  // TCP: an ACK without SYN seen; UDP: a second packet seen
  kConnectionClosing = 3       // TCP: FIN or RST seen
};

// ConnectionMeta: `meta` of an entry.
//   bit 0       protocol: 0 TCP, 1 UDP
//   bits 1-2    enum ConnectionState
//   bits 3-15   stamp: seconds (CLOCK_BOOTTIME) modulo 8192 when last seen
enum ConnectionMeta {
  kMetaProtocolMask = 0x1,
  kMetaStateShift = 1,
  kMetaStateMask = 0x6,
  kMetaStampShift = 3,
  kStampMask = 0x1fff
};

// The whole flow key, the backend and the state in 16 bytes.
struct ConnectionIpv4 {
  be32 client;
  be32 vip;
  be16 client_port;
  be16 vip_port;
  uint16_t meta;
  uint16_t backend;
};

// The whole flow key in 32 bytes: the VIP is named by its number (Vip::number), which no other
// address ever has.
struct ConnectionIpv6 {
  struct Address client;
  uint32_t vip_number;
  uint32_t bucket_tag;  // what the entry's other bucket is found by (connection_other_bucket)
  be16 client_port;
  be16 vip_port;
  uint16_t meta;
  uint16_t backend;
};

// One cache line.
union ConnectionBucket {
  struct ConnectionIpv4 ipv4[kIpv4EntriesPerBucket];
  struct ConnectionIpv6 ipv6[kIpv6EntriesPerBucket];
  uint64_t word[8];
};

struct ConnectionRegionHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_size;   // kConnectionHeaderSize
  uint64_t total_size;    // bytes
  uint32_t table_count;   // tables in the region, at most kMaxConnectionTables
  uint32_t live_tables;   // the first so many have a worker now; the others are read for adoption only
  uint32_t ipv4_buckets;  // per table, a power of two
  uint32_t ipv6_buckets;  // per table, a power of two
  uint64_t flow_hash_key_fingerprint;  // of the FlowHashKey that placed the entries; 0: none yet
  uint64_t alive_boottime_s;  // CLOCK_BOOTTIME when the dataplane last said that it keeps the stamps true
  uint64_t boot_id;           // of the boot that the stamps count from
};

SLUICE_STATIC_ASSERT(sizeof(struct ConnectionIpv4) == 16, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(struct ConnectionIpv6) == 32, "layout is part of the ABI");
SLUICE_STATIC_ASSERT(sizeof(union ConnectionBucket) == 64, "a bucket is one cache line");

SLUICE_NAMESPACE_END

#endif
