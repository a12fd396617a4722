// The XDP bench's driver. BPF_PROG_TEST_RUN gives each repetition the frame that the one before has left,
// encapsulated and all; so this program comes first, gives the frame its size and its headers back, varies
// the flow, and calls the program that is measured. Its own cost is measured with the empty program behind
// it.

// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "tools/bench/xdp_driver.h"

#include "dataplane/abi/wire.h"
#include "dataplane/core/bytes.h"

struct DriverControl control;

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(uint32_t));
  __uint(value_size, sizeof(uint32_t));
} target SEC(".maps");

// Flow n is the same flow each time: client n / 32,768 from port 1,024 + n % 32,768.
SLUICE_INLINE void write_flow(uint8_t *start, uint64_t flow) {
  uint32_t client = host_to_be32((control.ipv6 ? 0u : 0x0b000000u) + (uint32_t)(flow >> 15));
  uint32_t vip = control.vips[flow & (kDriverServices - 1)];
  // In one store: the measured program reads both ports as one word, as the NIC wrote them.
  uint32_t ports = host_to_be32(((1024 + (uint32_t)(flow & 0x7fff)) << 16) | 80);
  if (control.ipv6) {
    store_be32(start + 14 + 8 + 12, client);
    store_be32(start + 14 + 24 + 12, vip);
    store_be32(start + 14 + 40, ports);
  } else {
    store_be32(start + 14 + 12, client);
    store_be32(start + 14 + 16, vip);
    store_be32(start + 14 + 20, ports);
  }
}

SEC("xdp")
int drive(struct xdp_md *context) {
  const uint8_t *received = (const uint8_t *)(long)context->data;
  long growth = (const uint8_t *)(long)context->data_end - received;
  __asm__ volatile(""
                   : "+r"(growth));  // the verifier takes a difference of pointers, but no other order of it
  growth -= control.frame_size;
  if (bpf_xdp_adjust_head(context, (int)growth) != 0) return XDP_ABORTED;
  uint8_t *start = (uint8_t *)(long)context->data;
  const uint8_t *end = (const uint8_t *)(long)context->data_end;
  if (start + kDriverFrameWords * 8 > end) return XDP_ABORTED;
  SLUICE_UNROLL
  for (int i = 0; i < kDriverFrameWords; i++) ((UnalignedWord64 *)start)[i] = control.frame[i];
  uint64_t turn = control.count++;
  uint64_t flow = control.first_flow;
  flow += control.order == kDriverSequential ? turn
                                             : (((turn * 0x9e3779b97f4a7c15ull) >> 32) * control.flows) >> 32;
  write_flow(start, flow);
  bpf_tail_call(context, &target, 0);
  return XDP_ABORTED;
}

// What everything is measured against.
SEC("xdp")
int empty(struct xdp_md *context) {
  (void)context;
  return XDP_TX;
}

enum { kIpipGrowth = 20, kIpipFrameStart = kEthernetHeaderSize + kIpipGrowth + kIpipGrowth };

// A balancer without tables: every packet goes to one place, in IPv4.
SLUICE_INLINE int encapsulate_to_constant(struct xdp_md *context, uint32_t spice) {
  if (bpf_xdp_adjust_head(context, -kIpipGrowth) != 0) return XDP_ABORTED;
  uint8_t *start = (uint8_t *)(long)context->data;
  const uint8_t *end = (const uint8_t *)(long)context->data_end;
  if (start + kIpipFrameStart > end) return XDP_ABORTED;
  uint32_t length = host_to_be16((uint16_t)(control.frame_size - kEthernetHeaderSize + kIpipGrowth));
  SLUICE_UNROLL
  for (int i = 0; i < 8; i += 4) store_be32(start + i, 0x02020202 + spice);
  store_be32(start + 8, 0x02020202);
  store_be32(start + 12, 0x00450008);
  store_be16(start + 16, (be16)length);
  store_be32(start + 18, 0);
  store_be32(start + 22, 0x00000440);
  store_be32(start + 26, 0x0100000a);
  store_be32(start + 30, 0x0200000a);
  return XDP_TX;
}

SEC("xdp")
int constant(struct xdp_md *context) { return encapsulate_to_constant(context, 0); }

// As many bytes as the connection table has.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, uint64_t[8]);
} lines SEC(".maps");

// The same, after a look at one cache line for the packet's flow: the least that a connection table can cost.
SEC("xdp")
int constant_and_line(struct xdp_md *context) {
  const uint8_t *start = (const uint8_t *)(long)context->data;
  const uint8_t *end = (const uint8_t *)(long)context->data_end;
  if (start + kDriverFrameWords * 8 > end) return XDP_ABORTED;
  uint32_t ports = control.ipv6 ? load_be32(start + 14 + 40) : load_be32(start + 14 + 20);
  uint32_t client = control.ipv6 ? load_be32(start + 14 + 20) : load_be32(start + 14 + 12);
  uint64_t hash = (client + ((uint64_t)ports << 32)) * 0x9e3779b97f4a7c15ull;
  hash = (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15ull;
  uint32_t line = (uint32_t)(hash >> 32) & control.line_mask;
  const uint64_t(*found)[8] = bpf_map_lookup_elem(&lines, &line);
  return encapsulate_to_constant(context, found ? (uint32_t)(*found)[0] : 0);
}

char driver_license[] SEC("license") = "GPL";
