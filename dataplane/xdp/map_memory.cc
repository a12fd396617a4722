#include "dataplane/xdp/map_memory.h"

#include <cerrno>
#include <cstring>

#include <bpf/bpf.h>
#include <fmt/format.h>

namespace sluice {

Result<Mapping> map_memory(int map_fd, std::string_view what) {
  constexpr size_t kPage = 4096;
  bpf_map_info info = {};
  uint32_t info_size = sizeof(info);
  if (bpf_obj_get_info_by_fd(map_fd, &info, &info_size) != 0)
    return Error{fmt::format("{}: is no BPF map: {}", what, std::strerror(errno))};  // NOLINT
  const size_t size = size_t{info.value_size} * info.max_entries;
  return map_shared(map_fd, (size + kPage - 1) / kPage * kPage, what);
}

}  // namespace sluice
