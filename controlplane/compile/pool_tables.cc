#include "controlplane/compile/pool_tables.h"

#include <algorithm>
#include <set>
#include <utility>

#include <oneapi/tbb/parallel_for_each.h>

namespace sluice {
namespace {

// The members that have got as far as `step`, of the lowest priority among them.
std::vector<PoolMember> members_from(const std::vector<PoolMember> &members, uint8_t step) {
  std::vector<PoolMember> chosen;
  for (const PoolMember &member : members) {
    if (member.ramp_step < step) continue;
    if (!chosen.empty() && member.priority > chosen.front().priority) continue;
    if (!chosen.empty() && member.priority < chosen.front().priority) chosen.clear();
    chosen.push_back(member);
  }
  return chosen;
}

// The steps that members have got to, the furthest first.
std::set<uint8_t, std::greater<>> steps_of(const std::vector<PoolMember> &members) {
  std::set<uint8_t, std::greater<>> steps;
  for (const PoolMember &member : members) steps.insert(member.ramp_step);
  return steps;
}

// Lays a table over another by `step`.
void lay_over(const std::vector<uint16_t> &layer, uint8_t step, std::vector<uint16_t> *table) {
  if (table->empty() || step >= kRampSteps) {
    *table = layer;
    return;
  }
  for (size_t i = 0; i < layer.size(); i++) {
    if (i % kRampSteps < step) (*table)[i] = layer[i];
  }
}

}  // namespace

bool PoolTable::KeptMember::is(const PoolMember &member) const {
  return id == member.maglev.id && weight == member.maglev.weight && priority == member.priority &&
         ramp_step == member.ramp_step && name == member.maglev.name;
}

bool PoolTable::is_made_of(const PoolTableInput &input) const {
  return slot_count_ == input.slots &&
         std::ranges::equal(members_, input.members,
                            [](const KeptMember &kept, const PoolMember &member) { return kept.is(member); });
}

// A layer of the table before if it had the same members, whatever their steps.
PoolTable::Layer PoolTable::make_layer(const std::vector<PoolMember> &members, uint32_t slots) {
  const auto is_same = [](const KeptMember &kept, const PoolMember &member) {
    return kept.id == member.maglev.id && kept.weight == member.maglev.weight &&
           kept.name == member.maglev.name;
  };
  for (Layer &layer : layers_) {
    if (layer.slots.size() == slots && std::ranges::equal(layer.members, members, is_same))
      return std::move(layer);
  }
  Layer layer;
  std::vector<MaglevMember> scheduled;
  for (const PoolMember &member : members) {
    layer.members.push_back({std::string(member.maglev.name), member.maglev.id, member.maglev.weight, 0, 0});
    scheduled.push_back(member.maglev);
  }
  layer.slots = build_maglev(scheduled, slots);
  return layer;
}

void PoolTable::build(const PoolTableInput &input) {
  std::vector<Layer> layers;
  const std::set<uint8_t, std::greater<>> steps = steps_of(input.members);
  blended_ = {};
  for (const uint8_t step : steps) {
    layers.push_back(make_layer(members_from(input.members, step), input.slots));
    if (steps.size() > 1) lay_over(layers.back().slots, step, &blended_);
  }
  layers_ = std::move(layers);
  slot_count_ = input.slots;
  members_.clear();
  for (const PoolMember &member : input.members) {
    members_.push_back({std::string(member.maglev.name), member.maglev.id, member.maglev.weight,
                        member.priority, member.ramp_step});
  }
}

std::vector<std::span<const uint16_t>> PoolTables::update(std::span<const PoolTableInput> inputs,
                                                          CompileCost *cost) {
  std::unordered_map<std::string, PoolTable> wanted;
  wanted.reserve(inputs.size());
  std::vector<std::pair<PoolTable *, const PoolTableInput *>> stale;
  std::vector<const PoolTable *> tables;
  tables.reserve(inputs.size());
  for (const PoolTableInput &input : inputs) {
    PoolTable &table = wanted[input.table];
    if (const auto found = kept_.find(input.table); found != kept_.end()) table = std::move(found->second);
    if (!table.is_made_of(input)) stale.emplace_back(&table, &input);
    tables.push_back(&table);
  }
  tbb::parallel_for_each(stale, [](const auto &job) { job.first->build(*job.second); });
  kept_ = std::move(wanted);
  cost->built_pools = static_cast<uint32_t>(stale.size());
  cost->reused_pools = static_cast<uint32_t>(inputs.size() - stale.size());
  std::vector<std::span<const uint16_t>> spans;
  spans.reserve(tables.size());
  for (const PoolTable *table : tables) spans.emplace_back(table->slots());
  return spans;
}

}  // namespace sluice
