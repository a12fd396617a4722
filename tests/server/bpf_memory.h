// A BPF array map as the XDP engine's regions lie in: mapped for the engine, with a descriptor for readers.
// Needs root.
#ifndef SLUICE_TESTS_SERVER_BPF_MEMORY_H
#define SLUICE_TESTS_SERVER_BPF_MEMORY_H

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "dataplane/server/shared_memory.h"

namespace sluice {

/// A new map of `count` elements of `value_size` bytes. The map is there as long as its memory is.
inline SharedMemory make_bpf_memory(uint32_t value_size, uint32_t count) {
  LIBBPF_OPTS(bpf_map_create_opts, create, .map_flags = BPF_F_MMAPABLE);
  UniqueFd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", sizeof(uint32_t), value_size, count, &create));
  EXPECT_TRUE(map.valid()) << "needs root: " << std::strerror(errno);
  Result<Mapping> mapping = map_shared(map.get(), uint64_t{value_size} * count, "test map");
  EXPECT_TRUE(mapping.ok()) << mapping.error().message;
  return {std::move(mapping).value(), std::move(map), "test map"};
}

}  // namespace sluice

#endif
