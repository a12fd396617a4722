// On the balancer's interface, at tc ingress: the kernel drops what arrives. DPDK's net_af_packet reads
// before tc does and so still gets every packet, while the kernel, which would get a copy of each, cannot
// answer for the VIPs a second time. (net_af_xdp leaves the kernel nothing anyway.)

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
