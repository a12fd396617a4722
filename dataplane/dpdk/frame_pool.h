// The buffers that frames live in.
#ifndef SLUICE_DPDK_FRAME_POOL_H
#define SLUICE_DPDK_FRAME_POOL_H

#include <cstdint>
#include <memory>

#include <rte_config.h>
#include <rte_mempool.h>

namespace sluice {

/// How buffers lie in memory.
enum class PoolLayout {
  kDefault,  // DPDK's: no buffer crosses a page
  // One right after the other in one piece. AF_XDP's driver takes (buffers x size) bytes for the pool's
  // extent; with gaps at page ends (without huge pages: 1.7 KB of every 4) the kernel silently drops
  // what would go to or come from the buffers behind that, until none are left to receive into.
  kPacked
};

struct FramePoolOptions {
  const char *name = "sluice_frames";
  uint32_t buffers = 0;
  uint16_t data_room = 0;  // bytes, headroom included
  int numa_node = -1;      // SOCKET_ID_ANY
  PoolLayout layout = PoolLayout::kDefault;
};

struct FramePoolDeleter {
  void operator()(rte_mempool *pool) const { rte_mempool_free(pool); }
};
using FramePool = std::unique_ptr<rte_mempool, FramePoolDeleter>;

constexpr uint32_t kPoolCacheFrames = 256;  // per core

/// A pool of mbufs; null, with rte_errno set, when there is not enough memory in the wanted layout.
FramePool create_frame_pool(const FramePoolOptions &options);

}  // namespace sluice

#endif
