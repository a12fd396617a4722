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

char driver_license[] SEC("license") = "GPL";
