// The memory of a BPF array map.
#ifndef SLUICE_XDP_MAP_MEMORY_H
#define SLUICE_XDP_MAP_MEMORY_H

#include <string_view>

#include "dataplane/abi/result.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {

/// Maps all elements of an array map made with BPF_F_MMAPABLE. Errors name `what`.
[[nodiscard]] Result<Mapping> map_memory(int map_fd, std::string_view what);

}  // namespace sluice

#endif
