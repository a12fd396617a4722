// What the XDP program and its loader (dataplane/xdp) share besides the ABI's records: sizes, settings that
// are fixed when the program is loaded, and the state that the loader writes while it runs.
#ifndef SLUICE_BPF_LAYOUT_H
#define SLUICE_BPF_LAYOUT_H

#include "dataplane/abi/connection.h"
#include "dataplane/abi/counters.h"
#include "dataplane/abi/egress.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/core/connection_entry.h"
#include "dataplane/core/packet.h"

SLUICE_NAMESPACE_BEGIN

// Records per generation. Powers of two, so that a mask bounds an index for the verifier. Fixed, so that the
// program addresses the tables directly, without a lookup.
enum XdpCapacities {
  kXdpVips = 1 << 18,  // entries of the VIP hash table
  kXdpPortRanges = 1 << 19,
  kXdpServices = kMaxServices,
  kXdpBackends = kMaxBackends,
  kXdpGenerations = 2,
  kXdpMaxWorkers = kMaxConnectionTables,  // CPUs
  kXdpMaxPorts = 32,
  kXdpSlotsPerLine = 32,     // slots in one element of the map `slots`
  kXdpSweepBuckets = 256,    // of each family, in one run of the sweep program
  kXdpConnectionHeader = 64  // elements of the map `connections` in front of the first table
};

SLUICE_STATIC_ASSERT((int)kXdpConnectionHeader *(int)sizeof(union ConnectionBucket) == kConnectionHeaderSize,
                     "the header fills whole buckets");

// One worker's element of the map `counters`: dataplane/abi/counters.h, with all capacities. Its size is the
// region's worker_stride.
struct __attribute__((aligned(4096))) XdpCounters {
  struct WorkerCounters worker;
  struct BackendCounters backends[kMaxBackends];
  struct TrafficCounters services[kMaxServices];
};

// Where the program's time comes from.
enum XdpClock {
  kXdpClockBoottime,  // CLOCK_BOOTTIME, read again in each jiffy, which also refills the budgets
  kXdpClockFixed      // XdpWorker::now_s and the budgets stay as they were set: for tests
};

// Written by the loader before the program is loaded: constants to the verifier.
struct XdpSettings {
  uint32_t worker_count;                // CPUs from 0 on that have a connection table of their own
  uint32_t table_count;                 // connection tables, those of former workers included
  uint32_t ipv4_buckets;                // per table, a power of two
  uint32_t ipv6_buckets;                // per table, a power of two
  uint32_t table_buckets;               // of a table, both families
  uint32_t slot_lines;                  // per generation
  uint32_t clock;                       // enum XdpClock
  uint32_t several_buffers;             // 1: a frame may have fragments (BPF_F_XDP_HAS_FRAGS)
  uint32_t port_ifindex[kXdpMaxPorts];  // by port index; 0: no such port
};

// One generation of the snapshot's sections and the egress records, slots aside.
struct XdpGeneration {
  struct FlowHashKey flow_hash_key;
  uint32_t vip_mask;
  uint32_t installed;  // 0: no snapshot yet
  uint32_t check_source_count;
  uint32_t reserved;
  struct CheckSource check_sources[kMaxCheckSources];
  uint16_t pins[kMaxPins];
  struct Vip vips[kXdpVips];
  struct PortRange port_ranges[kXdpPortRanges];
  struct Service services[kXdpServices];
  struct Backend backends[kXdpBackends];
  struct Egress egress[kXdpBackends];
};

// Written by the loader while the program runs: the generation that is not in use, then `current`.
struct XdpState {
  uint64_t current;  // 0 or 1
};

// What the hit path leaves for the program that does what is rare.
struct XdpHandover {
  struct Packet packet;
  struct ConnectionKey key;
  uint32_t service;       // identifier
  uint32_t frame_length;  // bytes, as received
  uint32_t generation;
  uint32_t has_entry;  // 1: the flow may have an entry: one that does not hold, or nobody has looked
};

// One CPU's own. Written by the program on that CPU; the loader writes it before the program is attached.
struct __attribute__((aligned(64))) XdpWorker {
  uint64_t jiffies;  // when the clock was last read
  uint64_t boottime_ms;
  uint32_t now_s;                // CLOCK_BOOTTIME
  uint32_t adoption_budgets[2];  // peers' tables to look into
  uint32_t displacement_budget;
  uint32_t icmp_reply_budget;
  uint32_t sweep_cursor;  // bucket
  struct XdpHandover handover;
  struct DisplacementPath displacement_path;  // the stack has no room for it
};

SLUICE_NAMESPACE_END

#endif
