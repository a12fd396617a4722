#include "dataplane/xdp/kernel_features.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <sys/utsname.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

constexpr uint32_t kSmallElement = 8;                    // bytes
constexpr uint32_t kLargeElement = (4u << 20) + 4096;    // more than kmalloc gives
constexpr uint32_t kHasFragments = BPF_F_XDP_HAS_FRAGS;  // of a program
constexpr uint32_t kLiveFrames = BPF_F_TEST_XDP_LIVE_FRAMES;

/// An array that can be mapped; an invalid descriptor with errno.
UniqueFd create_array(uint32_t element_size) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
  return UniqueFd(
      bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_probe", sizeof(uint32_t), element_size, 1, &options));
}

/// What the programs cannot do without. What is older than the last of them is not asked for by itself
/// (bpf/README.md has the whole list).
std::string what_it_lacks() {
  if (!create_array(kSmallElement).valid())
    return fmt::format("arrays that a process can map (Linux 5.5; the kernel says: {})",
                       std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  if (!create_array(kLargeElement).valid())
    return fmt::format("array elements of more than 4 MB (Linux 6.0; the kernel says: {})",
                       std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  return "";
}

/// A program that drops everything; an invalid descriptor with errno.
UniqueFd load_drop_program(uint32_t flags) {
  std::array<bpf_insn, 2> code = {};
  code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;  // r0 = XDP_DROP
  code[0].imm = XDP_DROP;
  code[1].code = BPF_JMP | BPF_EXIT;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = flags);
  return UniqueFd(
      bpf_prog_load(BPF_PROG_TYPE_XDP, "sluice_probe", "GPL", code.data(), code.size(), &options));
}

bool runs_live_frames(int program_fd) {
  std::array<uint8_t, 64> frame = {};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(), .repeat = 1,
              .flags = kLiveFrames);
  return bpf_prog_test_run_opts(program_fd, &options) == 0;
}

}  // namespace

Result<KernelFeatures> probe_kernel() {
  const UniqueFd program = load_drop_program(0);
  if (!program.valid())
    return Error{fmt::format("--engine: \"xdp\" cannot load any XDP program: {}{}",
                             std::strerror(errno),  // NOLINT(concurrency-mt-unsafe)
                             errno == EPERM ? "; it needs root (CAP_BPF and CAP_NET_ADMIN)" : "")};
  KernelFeatures features;
  utsname name = {};
  if (::uname(&name) == 0) features.release = name.release;
  features.lacks = what_it_lacks();
  features.several_buffers = load_drop_program(kHasFragments).valid();
  features.live_frames = runs_live_frames(program.get());
  return features;
}

}  // namespace sluice
