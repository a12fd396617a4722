// What the XDP bench and its driver program (xdp_driver.bpf.c) share.
#ifndef SLUICE_BENCH_XDP_DRIVER_H
#define SLUICE_BENCH_XDP_DRIVER_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

enum DriverLimits {
  kDriverFrameWords = 10,  // 64-bit words that the driver writes anew: all headers of a frame
  kDriverServices = 8      // VIPs; a power of two
};

enum DriverOrder {
  kDriverRandom,     // first_flow, and a part of `flows` that the golden ratio's multiples fill evenly
  kDriverSequential  // first_flow, and the number of packets so far
};

// Written by the bench between runs.
struct DriverControl {
  uint64_t frame[kDriverFrameWords];  // the headers as they are to be, but for what varies
  uint32_t frame_size;                // bytes
  uint32_t ipv6;                      // 1: IPv6
  uint32_t line_mask;                 // the map `lines` has one more
  uint32_t order;                     // enum DriverOrder
  uint32_t vips[kDriverServices];     // last word of the destination address, by flow modulo their number
  uint64_t flows;
  uint64_t first_flow;
  uint64_t count;  // packets so far; written by the driver
};

SLUICE_NAMESPACE_END

#endif
