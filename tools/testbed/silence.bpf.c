// On the balancer's interfaces under net_af_packet, at tc ingress: the kernel drops what arrives. DPDK reads
// before tc does and so still gets every packet, while the kernel, which would get a copy of each, cannot
// answer a second time. (net_af_xdp leaves the kernel nothing anyway; under XDP what arrives here is the
// kernel's to answer.)

// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
// clang-format on

SEC("tc")
int silence(struct __sk_buff *packet) {
  (void)packet;
  return TC_ACT_SHOT;
}

char license_text[] SEC("license") = "GPL";
