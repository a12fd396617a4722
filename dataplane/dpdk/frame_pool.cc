#include "dataplane/dpdk/frame_pool.h"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memzone.h>

namespace sluice {
namespace {

constexpr unsigned kPageSize = 4096;  // AF_XDP wants the memory to start at one

void free_memory(rte_mempool_memhdr * /*chunk*/, void *zone) {
  rte_memzone_free(static_cast<const rte_memzone *>(zone));
}

/// Fills `pool` from one memory zone, which is one piece for devices too, without gaps.
bool populate_packed(rte_mempool *pool) {
  size_t object_size = pool->header_size + pool->elt_size + pool->trailer_size;
  size_t size = object_size * pool->size;
  const rte_memzone *zone =
      rte_memzone_reserve_aligned(pool->name, size, pool->socket_id, RTE_MEMZONE_IOVA_CONTIG, kPageSize);
  if (!zone) return false;
  int populated = rte_mempool_populate_iova(pool, static_cast<char *>(zone->addr), zone->iova, zone->len,
                                            free_memory, const_cast<rte_memzone *>(zone));
  if (populated < 0) rte_memzone_free(zone);
  // Without this, drivers take the pool for one that devices cannot reach.
  pool->flags &= ~static_cast<unsigned>(RTE_MEMPOOL_F_NON_IO);
  return populated == static_cast<int>(pool->size);
}

FramePool create_packed(const FramePoolOptions &options) {
  rte_pktmbuf_pool_private configuration = {};
  configuration.mbuf_data_room_size = options.data_room;
  auto element_size = static_cast<unsigned>(sizeof(rte_mbuf) + options.data_room);
  // The flag turns off the gaps.
  FramePool pool(rte_mempool_create_empty(options.name, options.buffers, element_size, kPoolCacheFrames,
                                          sizeof(configuration), options.numa_node,
                                          RTE_MEMPOOL_F_NO_IOVA_CONTIG));
  if (!pool) return nullptr;
  if (rte_mempool_set_ops_byname(pool.get(), rte_mbuf_best_mempool_ops(), nullptr) != 0) return nullptr;
  rte_pktmbuf_pool_init(pool.get(), &configuration);
  if (!populate_packed(pool.get())) return nullptr;
  rte_mempool_obj_iter(pool.get(), rte_pktmbuf_init, nullptr);
  return pool;
}

}  // namespace

FramePool create_frame_pool(const FramePoolOptions &options) {
  if (options.layout == PoolLayout::kPacked) return create_packed(options);
  return FramePool(rte_pktmbuf_pool_create(options.name, options.buffers, kPoolCacheFrames, 0,
                                           options.data_room, options.numa_node));
}

}  // namespace sluice
