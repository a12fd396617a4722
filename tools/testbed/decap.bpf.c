// A backend's end of the tunnel: takes the outer IP header off packets of IP protocol 4 (IPv4 inside)
// and 41 (IPv6 inside), in either outer family, and hands what is inside to the kernel. For kernels
// without ipip, sit and ip6_tunnel devices. Attached natively to the backend's veth.
//
// Only for the testbed: it trusts whoever sends to the backend, and does not carry a congestion mark of
// the outer header inwards (RFC 6040 section 4.2), which nothing on a veth sets.

// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

// The outer header's length in bytes and the inner packet's protocol; 0 if this is no tunnel packet.
static __always_inline __u32 outer_header_size(void *outer, void *end, __u16 ethertype, __u8 *inner) {
  if (ethertype == bpf_htons(ETH_P_IP)) {
    struct iphdr *ipv4 = outer;
    if ((void *)(ipv4 + 1) > end || ipv4->ihl != 5) return 0;
    // A fragment of a tunnel packet is not whole: the balancer never makes one.
    if (ipv4->frag_off & bpf_htons(0x3fff)) return 0;
    *inner = ipv4->protocol;
    return sizeof(*ipv4);
  }
  if (ethertype == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr *ipv6 = outer;
    if ((void *)(ipv6 + 1) > end) return 0;
    *inner = ipv6->nexthdr;
    return sizeof(*ipv6);
  }
  return 0;
}

SEC("xdp")
int decapsulate(struct xdp_md *context) {
  void *data = (void *)(long)context->data;
  void *end = (void *)(long)context->data_end;
  struct ethhdr *ethernet = data;
  if ((void *)(ethernet + 1) > end) return XDP_PASS;

  __u8 inner = 0;
  __u32 size = outer_header_size(ethernet + 1, end, ethernet->h_proto, &inner);
  if (size == 0 || (inner != IPPROTO_IPIP && inner != IPPROTO_IPV6)) return XDP_PASS;

  struct ethhdr header = *ethernet;
  header.h_proto = inner == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
  if (bpf_xdp_adjust_head(context, (int)size)) return XDP_DROP;

  // Packet pointers died with the resize.
  data = (void *)(long)context->data;
  end = (void *)(long)context->data_end;
  if (data + sizeof(header) > end) return XDP_DROP;
  *(struct ethhdr *)data = header;
  return XDP_PASS;
}

char license_text[] SEC("license") = "GPL";
