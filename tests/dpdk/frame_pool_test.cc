#include "dataplane/dpdk/frame_pool.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <rte_mbuf.h>

namespace sluice {
namespace {

TEST(FramePool, packed_buffers_lie_within_the_extent_that_af_xdps_driver_takes_for_the_pool) {
  constexpr uint32_t kBuffers = 5000;
  FramePool pool = create_frame_pool(
      {.name = "packed", .buffers = kBuffers, .data_room = 2176, .layout = PoolLayout::kPacked});
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->nb_mem_chunks, 1u);
  std::vector<rte_mbuf *> mbufs(kBuffers);
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(pool.get(), mbufs.data(), kBuffers), 0);
  std::sort(mbufs.begin(), mbufs.end());
  size_t object_size = rte_mempool_calc_obj_size(pool->elt_size, pool->flags, nullptr);
  auto first = reinterpret_cast<uintptr_t>(mbufs.front());
  auto last = reinterpret_cast<uintptr_t>(mbufs.back());
  EXPECT_EQ(last - first, (kBuffers - 1) * object_size);
  // Ready for devices, as any other pool's.
  EXPECT_EQ(pool->flags & RTE_MEMPOOL_F_NON_IO, 0u);
  EXPECT_EQ(rte_mbuf_data_iova(mbufs.back()),
            reinterpret_cast<uintptr_t>(rte_pktmbuf_mtod(mbufs.back(), char *)));
  EXPECT_GE(rte_pktmbuf_tailroom(mbufs.front()), 2048);
  rte_pktmbuf_free_bulk(mbufs.data(), kBuffers);
}

TEST(FramePool, too_large_a_pool_is_none) {
  for (PoolLayout layout : {PoolLayout::kDefault, PoolLayout::kPacked}) {
    EXPECT_FALSE(
        create_frame_pool({.name = "huge", .buffers = 10'000'000, .data_room = 2176, .layout = layout}));
  }
}

}  // namespace
}  // namespace sluice
