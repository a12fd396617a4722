// A program that runs until it is told to end, or for some seconds: as long, the kernel waits for its
// readers. The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

volatile __u32 reader_begun;
volatile __u32 reader_released;
volatile __u32 reader_ended;

static long wait_a_moment(__u32 turn, void *context) {
  (void)turn, (void)context;
  return reader_released != 0;
}

static long wait_long(__u32 turn, void *context) {
  (void)turn, (void)context;
  bpf_loop(1 << 20, wait_a_moment, (void *)0, 0);
  return reader_released != 0;
}

SEC("xdp")
int reader(struct xdp_md *context) {
  (void)context;
  reader_begun = 1;
  bpf_loop(1 << 13, wait_long, (void *)0, 0);
  reader_ended = 1;
  return XDP_PASS;
}

char reader_license[] SEC("license") = "GPL";
