// Somebody else's program beside the engine's: counts packets and passes them.
// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

__u64 counted_packets;

SEC("xdp")
int counting(struct xdp_md *context) {
  (void)context;
  __sync_fetch_and_add(&counted_packets, 1);
  return XDP_PASS;
}

char counting_license[] SEC("license") = "GPL";
