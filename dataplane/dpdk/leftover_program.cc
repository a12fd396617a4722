#include "dataplane/dpdk/leftover_program.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <net/if.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

/// Whether a line of /proc/<pid>/fdinfo/<fd> says that the descriptor is of this program.
bool names_program(const std::filesystem::path &fdinfo, uint32_t program) {
  std::ifstream file(fdinfo);
  std::string key;
  std::string value;
  while (file >> key >> value) {
    if (key == "prog_id:") return value == std::to_string(program);
  }
  return false;
}

/// The process that holds a descriptor of the program, or "".
std::string holder_of(uint32_t program) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  for (const auto &process : fs::directory_iterator("/proc", ignored)) {
    std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    for (const auto &descriptor : fs::directory_iterator(process.path() / "fdinfo", ignored)) {
      if (names_program(descriptor.path(), program)) return pid;
    }
  }
  return "";
}

}  // namespace

Result<std::string> remove_leftover_program(const std::string &interface) {
  int ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (ifindex == 0) {
    return Error{fmt::format("device: iface=\"{}\" does not exist in this network namespace", interface)};
  }
  uint32_t program = 0;
  if (bpf_xdp_query_id(ifindex, 0, &program) != 0 || program == 0) return std::string();

  bpf_prog_info info = {};
  uint32_t info_size = sizeof(info);
  std::string holder;
  {
    // Looked up before this process opens a descriptor of its own.
    holder = holder_of(program);
    UniqueFd fd(bpf_prog_get_fd_by_id(program));
    if (!fd.valid() || bpf_obj_get_info_by_fd(fd.get(), &info, &info_size) != 0) {
      return Error{fmt::format("device: iface=\"{}\": XDP program {} is attached and cannot be looked at: {}",
                               interface, program, strerror(errno))};
    }
  }
  std::string_view name(info.name);
  std::string remedy = fmt::format("remove it with: ip link set dev {} xdp off", interface);
  if (!holder.empty()) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program \"{}\" is attached and in use by process {}; "
                    "stop that, or {}",
                    interface, name, holder, remedy)};
  }
  // Kernels cut names at 15 characters.
  bool known = name == "xsk_def_prog" || name.starts_with("xdp_dispatcher");
  if (!known) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program \"{}\" is attached, which is not AF_XDP's own; "
                    "if nothing needs it, {}",
                    interface, name, remedy)};
  }
  int error = bpf_xdp_detach(ifindex, 0, nullptr);
  if (error != 0) {
    return Error{
        fmt::format("device: iface=\"{}\": XDP program \"{}\" of a process that was killed could not be "
                    "detached: {}; {}",
                    interface, name, strerror(-error), remedy)};
  }
  return fmt::format("removed XDP program \"{}\" that a killed process had left on {}", name, interface);
}

}  // namespace sluice
