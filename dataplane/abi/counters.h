// Counters in shared memory: written by workers, each its own lines, and by the server, which has lines of
// its own, too; read by sluiced with plain loads. A region: CounterRegionHeader, at unreachables_offset the
// server's part, a count for each backend, then per worker (each part at a multiple of 64 bytes, the first
// one after header_size bytes):
//   WorkerCounters | BackendCounters[backend_capacity] | TrafficCounters[service_capacity]
// In the DPDK engine header_size is what header and server's part take. In the XDP engine it is
// worker_stride: the region is a BPF array whose elements are of one size, the first one the header's and the
// server's.
#ifndef SLUICE_ABI_COUNTERS_H
#define SLUICE_ABI_COUNTERS_H

#include "dataplane/abi/portability.h"
#include "dataplane/abi/verdict.h"

SLUICE_NAMESPACE_BEGIN

#define SLUICE_COUNTER_MAGIC 0x544e554f43434c53ull  // "SLCCOUNT"
#define SLUICE_COUNTER_VERSION 3u

enum CounterLimits { kVerdictCapacity = 64, kCounterHeaderSize = 4096 };

struct WorkerCounters {
  uint64_t verdict_packets[kVerdictCapacity];  // by enum Verdict
  uint64_t received_packets;                   // equals the sum of verdict_packets when idle
  uint64_t received_bytes;
  uint64_t transmitted_packets;  // DPDK: forwarded, and accepted by the port; XDP: handed to the kernel to
                                 // transmit
  uint64_t transmitted_bytes;
  uint64_t kernel_packets;    // kernel to wire, by the exception path; not part of received_packets
  uint64_t steered_packets;   // handed to the worker that owns the flow
  uint64_t evicted_entries;   // embryonic connections that made room
  uint64_t expired_entries;   // connections that timed out
  uint64_t adoption_lookups;  // misses that looked into other workers' tables
  uint64_t busy_cycles;       // TSC cycles in iterations that found packets
  uint64_t total_cycles;      // TSC cycles in all iterations, sleep included
  uint64_t reserved[5];
};

// One cache line. Only packets towards the VIP are seen (direct return), so what a backend answered shows in
// what the client does next: the last four are what passive health goes by.
struct BackendCounters {
  uint64_t packets;             // forwarded to the backend
  uint64_t bytes;               // of the frames as received
  uint64_t opened_connections;  // entries made by this worker
  uint32_t active_connections;  // embryonic and established entries in this worker's table
  uint32_t reserved;
  uint64_t tcp_opens;           // entries made by a SYN
  uint64_t tcp_progresses;      // embryonic connections whose client went on: it got a SYN-ACK
  uint64_t tcp_repeated_opens;  // SYNs of connections that were still embryonic, in a later second
  uint64_t tcp_resets;          // connections, embryonic or established, that their client broke off by RST
};

struct TrafficCounters {
  uint64_t packets;
  uint64_t bytes;  // of the frames as received
};

struct CounterRegionHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_size;  // bytes before worker 0's part: a multiple of 64, at least kCounterHeaderSize
  uint64_t total_size;   // bytes
  uint32_t worker_count;
  uint32_t verdict_count;     // kVerdictCount of the writer: a reader refuses another
  uint32_t backend_capacity;  // records
  uint32_t service_capacity;  // records
  uint64_t worker_stride;     // bytes from one worker's part to the next
  uint64_t backends_offset;   // bytes from the start of a worker's part
  uint64_t services_offset;   // bytes from the start of a worker's part
  uint64_t tsc_hz;
  uint64_t started_unix_ns;
  uint64_t unreachables_offset;  // bytes from the start of the region: uint64_t[backend_capacity], ICMP
                                 // errors that say of a packet to the backend that it did not get there
};

SLUICE_STATIC_ASSERT((int)kVerdictCount <= (int)kVerdictCapacity, "room for every verdict");
SLUICE_STATIC_ASSERT(sizeof(struct WorkerCounters) % 64 == 0, "workers do not share cache lines");
SLUICE_STATIC_ASSERT(sizeof(struct BackendCounters) == 64, "a hit on one backend touches one cache line");

SLUICE_NAMESPACE_END

#endif
