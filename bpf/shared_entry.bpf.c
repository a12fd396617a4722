// What stands under libxdp's dispatcher for the engine, beside other programs. libxdp makes it replace one of
// its dispatcher's functions (freplace), and only jumps: so the engine's own programs are loaded as they are
// without a dispatcher, and the next process puts its program behind the jump in one step.
// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 2);  // where it jumps to; another that nobody jumps to, to see whether a program fits
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} sluice_jump SEC(".maps");

SEC("xdp")
int sluice_entry(struct xdp_md *context) {
  bpf_tail_call(context, &sluice_jump, 0);
  return XDP_PASS;  // nobody is there: the dispatcher's next program's turn, or the kernel's
}

char sluice_license[] SEC("license") = "GPL";
