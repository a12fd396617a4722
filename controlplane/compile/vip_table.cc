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

// Robin Hood insertion: who is further from home keeps the entry, so that the longest search is short.
// Nothing when some search would need too many probes.
std::optional<std::vector<Vip>> place(std::span<const Vip> vips, const FlowHashKey &key, size_t size) {
  std::vector<Vip> table(size);
  const auto mask = static_cast<uint32_t>(size - 1);
  for (Vip moving : vips) {
    uint32_t index = vip_hash(&key, &moving.address) & mask;
    for (uint32_t distance = 0;; ++distance, index = (index + 1) & mask) {
      if (distance == kMaxVipProbes) return std::nullopt;
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
  return table;
}

}  // namespace

Result<std::vector<Vip>> build_vip_table(std::span<const Vip> vips, const FlowHashKey &key) {
  std::vector<Vip> sorted(vips.begin(), vips.end());
  std::ranges::sort(sorted, {}, &Vip::address);
  for (size_t size = std::bit_ceil(std::max<size_t>(2 * sorted.size(), 1)); size <= kMaxTableSize;
       size *= 2) {
    if (auto table = place(sorted, key, size)) return std::move(*table);
  }
  return Error{"vips: " + std::to_string(vips.size()) + " do not fit a hash table of " +
               std::to_string(kMaxTableSize) + " entries with " + std::to_string(int{kMaxVipProbes}) +
               " probes; use another flow_hash_key"};
}

}  // namespace sluice
