// On the fabric's end of the balancer's wires: lets everything pass. What XDP_TX sends through a veth arrives
// only if the other end has an XDP program too.

// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

SEC("xdp")
int pass(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

char license_text[] SEC("license") = "GPL";
