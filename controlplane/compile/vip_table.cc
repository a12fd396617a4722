#include "controlplane/compile/vip_table.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>
#include <utility>

#include "controlplane/model/address_text.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

constexpr size_t kMaxTableSize = 1u << 22;  // entries; 128 MiB
// Up to this size a table grows until each VIP is where its lookup starts: a lookup that sometimes goes
// on costs a mispredicted branch. Entries that no VIP hashes to are hardly touched.
constexpr size_t kLargestRoomyTable = 1u << 13;  // entries; 256 KiB, enough for some dozens of VIPs

struct PlacedVips {
  std::vector<Vip> table;
  uint32_t longest;  // probes beyond the first that some lookup needs
};

// Robin Hood insertion: who is further from home keeps the entry, so that the longest search is short.
// Nothing when some search would need too many probes.
std::optional<PlacedVips> place(std::span<const Vip> vips, const FlowHashKey &key, size_t size) {
  std::vector<Vip> table(size);
  uint32_t longest = 0;
  const auto mask = static_cast<uint32_t>(size - 1);
  for (Vip moving : vips) {
    uint32_t index = vip_hash(&key, &moving.address) & mask;
    for (uint32_t distance = 0;; ++distance, index = (index + 1) & mask) {
      if (distance == kMaxVipProbes) return std::nullopt;
      longest = std::max(longest, distance);
      Vip &entry = table[index];
      if (entry.number == 0) {
        entry = moving;
        break;
      }
      const uint32_t entry_distance = (index - vip_hash(&key, &entry.address)) & mask;
      if (entry_distance >= distance) continue;
      std::swap(entry, moving);
      distance = entry_distance;
    }
  }
  return PlacedVips{std::move(table), longest};
}

}  // namespace

Result<std::vector<Vip>> build_vip_table(std::span<const Vip> vips, const FlowHashKey &key) {
  std::vector<Vip> sorted(vips.begin(), vips.end());
  std::ranges::sort(sorted, {}, &Vip::address);
  const size_t smallest = std::bit_ceil(std::max<size_t>(2 * sorted.size(), 1));
  std::optional<PlacedVips> best;
  for (size_t size = smallest; size <= kMaxTableSize; size *= 2) {
    if (best && size > kLargestRoomyTable) break;
    std::optional<PlacedVips> placed = place(sorted, key, size);
    if (placed && (!best || placed->longest < best->longest)) best = std::move(placed);
    if (best && best->longest == 0) break;
  }
  if (best) return std::move(best->table);
  return Error{"vips: " + std::to_string(vips.size()) + " do not fit a hash table of " +
               std::to_string(kMaxTableSize) + " entries with " + std::to_string(int{kMaxVipProbes}) +
               " probes; use another flow_hash_key"};
}

}  // namespace sluice
