#include "dataplane/xdp/attachment.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <unistd.h>

#include "dataplane/server/interface.h"

namespace sluice {
namespace {

constexpr std::string_view kOwnProgram = "sluice_xdp";

std::string error_text(int error) { return std::strerror(error < 0 ? -error : error); }  // NOLINT

/// Returns a link, or an invalid descriptor with errno.
UniqueFd create_link(int program_fd, uint32_t ifindex, XdpMode mode) {
  LIBBPF_OPTS(bpf_link_create_opts, options,
              .flags = mode == XdpMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  const int fd = bpf_link_create(program_fd, static_cast<int>(ifindex), BPF_XDP, &options);
  return UniqueFd(fd < 0 ? -1 : fd);
}

/// The link by which the program is on the interface, 0: none.
uint32_t link_of(uint32_t ifindex, uint32_t program_id) {
  for (uint32_t id = 0; bpf_link_get_next_id(id, &id) == 0;) {
    const UniqueFd link(bpf_link_get_fd_by_id(id));
    bpf_link_info info = {};
    uint32_t size = sizeof(info);
    if (!link.valid() || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) continue;
    if (info.type == BPF_LINK_TYPE_XDP && info.xdp.ifindex == ifindex && info.prog_id == program_id)
      return id;
  }
  return 0;
}

/// `refusals` are by mode, as tried.
Error cannot_attach(const std::string &interface, uint32_t ifindex, const std::string &refusals, int error) {
  std::string hint;
  const Result<InterfaceProgram> there = program_on(interface, ifindex);
  if ((error == EBUSY || error == EEXIST) && there.ok() && there.value().id != 0)
    hint = fmt::format("; another program is there, \"{}\" (id {}): if nothing needs it, remove it with: {}",
                       there.value().name, there.value().id, removal_command(there.value(), interface));
  if (error == EPERM) hint = "; it needs root (CAP_NET_ADMIN and CAP_BPF)";
  return Error{fmt::format("interface {}: the program cannot be attached, {}{}", interface, refusals, hint)};
}

}  // namespace

std::string_view mode_text(XdpMode mode) { return mode == XdpMode::kNative ? "native" : "generic"; }

std::string removal_command(const InterfaceProgram &program, const std::string &interface) {
  if (program.name == kOwnProgram)
    return "sluice-dataplane --detach, with the --bpf-directory that it was started with";
  if (program.link_id != 0) return fmt::format("bpftool link detach id {}", program.link_id);
  return fmt::format("ip link set dev {} {} off", interface,
                     program.mode == XdpMode::kGeneric ? "xdpgeneric" : "xdp");
}

Result<InterfaceProgram> program_on(const std::string &interface, uint32_t ifindex) {
  InterfaceProgram program;
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  const int error = bpf_xdp_query(static_cast<int>(ifindex), 0, &query);
  if (error != 0)
    return Error{
        fmt::format("interface {}: cannot ask for its XDP program: {}", interface, error_text(error))};
  for (const uint32_t id : {query.prog_id, query.drv_prog_id, query.skb_prog_id, query.hw_prog_id})
    if (program.id == 0) program.id = id;
  program.mode = query.attach_mode == XDP_ATTACHED_SKB ? XdpMode::kGeneric : XdpMode::kNative;
  if (program.id == 0) return program;
  const UniqueFd fd(bpf_prog_get_fd_by_id(program.id));
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  if (fd.valid() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0) program.name = info.name;
  program.link_id = link_of(ifindex, program.id);
  return program;
}

uint32_t program_id(int program_fd) {
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  return bpf_obj_get_info_by_fd(program_fd, &info, &size) == 0 ? info.id : 0;
}

UniqueFd map_of_program(int program_fd, std::string_view name) {
  std::array<uint32_t, 64> maps = {};
  bpf_prog_info program = {};
  program.nr_map_ids = maps.size();
  program.map_ids = reinterpret_cast<uintptr_t>(maps.data());
  uint32_t program_size = sizeof(program);
  if (bpf_obj_get_info_by_fd(program_fd, &program, &program_size) != 0) return {};
  for (uint32_t i = 0; i < program.nr_map_ids && i < maps.size(); i++) {
    UniqueFd map(bpf_map_get_fd_by_id(maps[i]));
    bpf_map_info info = {};
    uint32_t size = sizeof(info);
    if (map.valid() && bpf_obj_get_info_by_fd(map.get(), &info, &size) == 0 && name == info.name) return map;
  }
  return {};
}

Result<LinkFacts> look_at_link(int link_fd) {
  bpf_link_info info = {};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(link_fd, &info, &size) != 0)
    return Error{fmt::format("cannot look at a link: {}", error_text(errno))};
  if (info.type != BPF_LINK_TYPE_XDP) return Error{"the link is of no XDP program"};
  return LinkFacts{.ifindex = info.xdp.ifindex, .program_id = info.prog_id};
}

std::string driver_facts(const std::string &interface, FrameBuffers buffers) {
  const InterfaceFacts facts = interface_facts(interface);
  return fmt::format("driver {}, MTU {}, frames in {}", facts.driver.empty() ? "unknown" : facts.driver,
                     facts.mtu, buffers == FrameBuffers::kSeveral ? "several buffers" : "one buffer");
}

Result<Attachment> attach(int program_fd, const std::string &interface, uint32_t ifindex,
                          XdpModeChoice choice, FrameBuffers buffers) {
  Attachment attachment;
  std::string refusals;
  if (choice != XdpModeChoice::kGeneric) {
    attachment.link = create_link(program_fd, ifindex, XdpMode::kNative);
    const int error = errno;
    if (attachment.link.valid()) {
      attachment.reason = "the driver runs XDP programs";
      return attachment;
    }
    const std::string facts = driver_facts(interface, buffers);
    refusals = fmt::format("native ({}): {}", facts, error_text(error));
    if (choice == XdpModeChoice::kNative || error == EBUSY || error == EEXIST || error == EPERM)
      return cannot_attach(interface, ifindex, refusals, error);
    attachment.reason = fmt::format("the driver does not take it ({}: {})", facts, error_text(error));
    refusals += "; ";
  } else {
    attachment.reason = "--xdp-mode generic";
  }
  attachment.mode = XdpMode::kGeneric;
  attachment.link = create_link(program_fd, ifindex, XdpMode::kGeneric);
  const int error = errno;
  if (attachment.link.valid()) return attachment;
  return cannot_attach(interface, ifindex, refusals + "generic: " + error_text(error), error);
}

Status replace_program(int link_fd, int program_fd) {
  const int error = bpf_link_update(link_fd, program_fd, nullptr);
  if (error != 0) return Error{fmt::format("a link's program cannot be replaced: {}", error_text(error))};
  return Done{};
}

void wait_for_packets() {
  // A map in a map is replaced only after a grace period of RCU, within which every program that runs now
  // returns. (membarrier waits for one as well, but sandboxes and nohz_full refuse it.)
  const UniqueFd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_barrier", 4, 4, 1, nullptr));
  LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = static_cast<uint32_t>(inner.get()));
  const UniqueFd outer(
      bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "sluice_barriers", 4, sizeof(int), 1, &options));
  const uint32_t element = 0;
  const int fd = inner.get();
  if (inner.valid() && outer.valid() && bpf_map_update_elem(outer.get(), &element, &fd, BPF_ANY) == 0) return;
  ::usleep(100'000);  // no memory even for these: longer than any packet takes
}

Status detach(int link_fd) {
  const int error = bpf_link_detach(link_fd);
  if (error != 0) return Error{fmt::format("a link cannot be detached: {}", error_text(error))};
  wait_for_packets();
  return Done{};
}

}  // namespace sluice
