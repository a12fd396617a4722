#include "controlplane/compile/pool_tables.h"

#include <algorithm>
#include <utility>

#include <oneapi/tbb/parallel_for_each.h>

namespace sluice {

bool PoolTables::Kept::is_made_of(const PoolTableInput &input) const {
  return slots == input.slots &&
         std::ranges::equal(members, input.members, [](const KeptMember &a, const MaglevMember &b) {
           return a.id == b.id && a.weight == b.weight && a.name == b.name;
         });
}

void PoolTables::Kept::build(const PoolTableInput &input) {
  slots = input.slots;
  members.clear();
  for (const MaglevMember &member : input.members) {
    members.push_back({std::string(member.name), member.id, member.weight});
  }
  table = build_maglev(input.members, input.slots);
}

std::vector<std::span<const uint16_t>> PoolTables::update(std::span<const PoolTableInput> inputs,
                                                          CompileCost *cost) {
  std::unordered_map<std::string, Kept> wanted;
  wanted.reserve(inputs.size());
  std::vector<std::pair<Kept *, const PoolTableInput *>> stale;
  std::vector<const Kept *> tables;
  tables.reserve(inputs.size());
  for (const PoolTableInput &input : inputs) {
    const std::string pool(input.pool);
    Kept &kept = wanted[pool];
    if (const auto found = kept_.find(pool); found != kept_.end()) kept = std::move(found->second);
    if (!kept.is_made_of(input)) stale.emplace_back(&kept, &input);
    tables.push_back(&kept);
  }
  tbb::parallel_for_each(stale, [](const auto &job) { job.first->build(*job.second); });
  kept_ = std::move(wanted);
  cost->built_pools = static_cast<uint32_t>(stale.size());
  cost->reused_pools = static_cast<uint32_t>(inputs.size() - stale.size());
  std::vector<std::span<const uint16_t>> spans;
  spans.reserve(tables.size());
  for (const Kept *kept : tables) spans.emplace_back(kept->table);
  return spans;
}

}  // namespace sluice
