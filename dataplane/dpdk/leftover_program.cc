#include "dataplane/dpdk/leftover_program.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "dataplane/libxdp_handles.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

constexpr std::string_view kDefaultProgram = "xsk_def_prog";       // of libxdp's AF_XDP sockets
constexpr std::string_view kDispatcherProgram = "xdp_dispatcher";  // of libxdp, for several programs

struct LoadedProgram {
  uint32_t id = 0;
  std::string name;
};

/// What an interface's packets run through.
struct AttachedPrograms {
  LoadedProgram main;  // the one that the kernel knows of; id 0: none
  enum class Kind { kAlone, kDispatcher } kind = Kind::kAlone;
  std::vector<LoadedProgram> components;  // that a dispatcher calls
};

/// The programs on the interface with descriptors of this process, or why libxdp cannot tell them.
Result<Multiprog> open_programs(int ifindex) {
  QuietLibxdp quiet;
  xdp_multiprog *programs = xdp_multiprog__get_from_ifindex(ifindex);
  long error = libxdp_get_error(programs);
  if (error != 0) return Error{strerror(static_cast<int>(-error))};
  return Multiprog(programs);
}

Result<AttachedPrograms> look_at_programs(const std::string &interface, int ifindex) {
  AttachedPrograms attached;
  if (bpf_xdp_query_id(ifindex, 0, &attached.main.id) != 0 || attached.main.id == 0) return attached;
  auto unclear = [&](std::string_view cause) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program {} is attached and cannot be looked at ({}); if "
                    "nothing needs it, remove it with: ip link set dev {} xdp off",
                    interface, attached.main.id, cause, interface)};
  };
  UniqueFd fd(bpf_prog_get_fd_by_id(attached.main.id));
  bpf_prog_info info = {};
  uint32_t info_size = sizeof(info);
  if (!fd.valid() || bpf_obj_get_info_by_fd(fd.get(), &info, &info_size) != 0)
    return unclear(strerror(errno));
  attached.main.name = info.name;
  if (attached.main.name != kDispatcherProgram) return attached;
  Result<Multiprog> programs = open_programs(ifindex);
  if (!programs.ok()) return unclear(programs.error().message);
  const xdp_multiprog *opened = programs.value().get();
  if (xdp_multiprog__is_legacy(opened)) return attached;
  attached.kind = AttachedPrograms::Kind::kDispatcher;
  for (const xdp_program *program = xdp_multiprog__next_prog(nullptr, opened); program != nullptr;
       program = xdp_multiprog__next_prog(program, opened))
    attached.components.push_back({xdp_program__id(program), xdp_program__name(program)});
  return attached;
}

/// Whether nothing but AF_XDP's default program is attached. What a dispatcher is called says nothing:
/// firewalls and filters share it.
bool is_af_xdps_own(const AttachedPrograms &attached) {
  if (attached.kind == AttachedPrograms::Kind::kAlone) return attached.main.name == kDefaultProgram;
  return !attached.components.empty() &&
         std::all_of(attached.components.begin(), attached.components.end(),
                     [](const LoadedProgram &component) { return component.name == kDefaultProgram; });
}

/// "xsk_def_prog", or "xdp_dispatcher" with what it calls.
std::string name_of(const AttachedPrograms &attached) {
  if (attached.kind == AttachedPrograms::Kind::kAlone) return fmt::format("\"{}\"", attached.main.name);
  std::vector<std::string> names;
  for (const LoadedProgram &component : attached.components) names.push_back(component.name);
  return fmt::format("\"{}\" with [{}]", attached.main.name, fmt::join(names, ", "));
}

/// Whether /proc/<pid>/fdinfo/<fd> says that the descriptor is of one of these programs.
bool names_program(const std::filesystem::path &fdinfo, const AttachedPrograms &attached) {
  std::ifstream file(fdinfo);
  std::string key;
  std::string value;
  while (file >> key >> value) {
    if (key != "prog_id:") continue;
    return value == std::to_string(attached.main.id) ||
           std::any_of(
               attached.components.begin(), attached.components.end(),
               [&value](const LoadedProgram &component) { return value == std::to_string(component.id); });
  }
  return false;
}

/// The process, other than this one, that holds a descriptor of one of the programs, or "". A socket's
/// owner holds its component, not the dispatcher. This process opens its sockets later, and libxdp 1.3.1
/// leaves descriptors of programs open in it that it was only asked about.
std::string holder_of(const AttachedPrograms &attached) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  for (const auto &process : fs::directory_iterator("/proc", ignored)) {
    std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(getpid())) continue;
    for (const auto &descriptor : fs::directory_iterator(process.path() / "fdinfo", ignored)) {
      if (names_program(descriptor.path(), attached)) return pid;
    }
  }
  return "";
}

/// Returns 0 or an errno.
int detach(int ifindex, const AttachedPrograms &attached) {
  if (attached.kind == AttachedPrograms::Kind::kAlone) return -bpf_xdp_detach(ifindex, 0, nullptr);
  Result<Multiprog> programs = open_programs(ifindex);
  if (!programs.ok()) return EBUSY;
  QuietLibxdp quiet;
  return -xdp_multiprog__detach(programs.value().get());  // with what it has pinned
}

}  // namespace

Result<std::string> remove_leftover_program(const std::string &interface) {
  int ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (ifindex == 0) {
    return Error{fmt::format("device: iface=\"{}\" does not exist in this network namespace", interface)};
  }
  Result<AttachedPrograms> looked_at = look_at_programs(interface, ifindex);
  if (!looked_at.ok()) return looked_at.error();
  const AttachedPrograms &attached = looked_at.value();
  if (attached.main.id == 0) return std::string();

  std::string name = name_of(attached);
  std::string remedy = fmt::format("remove it with: ip link set dev {} xdp off", interface);
  if (!is_af_xdps_own(attached)) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program {} is attached, which is not AF_XDP's own; "
                    "if nothing needs it, {}",
                    interface, name, remedy)};
  }
  std::string holder = holder_of(attached);
  if (!holder.empty()) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program {} is attached and in use by process {}; "
                    "stop that, or {}",
                    interface, name, holder, remedy)};
  }
  int error = detach(ifindex, attached);
  if (error != 0) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program {} of a process that was killed could not be "
                    "detached: {}; {}",
                    interface, name, strerror(error), remedy)};
  }
  return fmt::format("removed XDP program {} that a killed process had left on {}", name, interface);
}

}  // namespace sluice
