#include "controlplane/model/check_pins.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "controlplane/model/address_text.h"

namespace sluice::model {
namespace {

// What `before` has of those in `wanted`, whom it takes from there.
std::vector<uint16_t> kept_pins(const std::vector<uint16_t> &before, std::unordered_set<uint16_t> *wanted) {
  std::vector<uint16_t> pins;
  for (size_t i = 0; i < before.size() && i < kMaxPinsOfSource; ++i) {
    if (before[i] == 0 || wanted->erase(before[i]) == 0) continue;
    pins.resize(i + 1);
    pins[i] = before[i];
  }
  return pins;
}

}  // namespace

Result<CheckPins> assign_check_pins(const CheckPins &before, const std::vector<CheckedThrough> &checked) {
  std::map<Address, std::unordered_set<uint16_t>> unpinned;
  for (const CheckedThrough &one : checked) unpinned[one.source].insert(one.backend);
  if (unpinned.size() > kMaxCheckSources) {
    return Error{"pools: checks through the data path come from " + std::to_string(unpinned.size()) +
                 " addresses; allowed: " + std::to_string(int{kMaxCheckSources})};
  }
  CheckPins pins;
  for (auto &[source, wanted] : unpinned) {
    if (wanted.size() > kMaxPinsOfSource) {
      return Error{"pools: " + std::to_string(wanted.size()) +
                   " backends are checked through the data path from " + format_address(source) +
                   "; allowed: " + std::to_string(int{kMaxPinsOfSource}) +
                   "; give some of the pools another source"};
    }
    const auto known = before.find(source);
    std::vector<uint16_t> &of_source = pins[source];
    if (known != before.end()) of_source = kept_pins(known->second, &wanted);
  }
  // In the order of `checked`, so that the same configuration makes the same pins.
  std::map<Address, size_t> next;
  for (const CheckedThrough &one : checked) {
    if (unpinned[one.source].erase(one.backend) == 0) continue;
    std::vector<uint16_t> &of_source = pins[one.source];
    size_t &place = next[one.source];
    while (place < of_source.size() && of_source[place] != 0) ++place;
    if (place == of_source.size()) of_source.push_back(0);
    of_source[place] = one.backend;
  }
  for (const auto &[source, gone] : before) {
    if (pins.size() < kMaxCheckSources) pins.try_emplace(source);
  }
  return pins;
}

const Address &check_source(const Pool &pool) {
  return address_is_ipv4(&*pool.health.vip) ? *pool.health.source_ipv4 : *pool.health.source_ipv6;
}

CheckFlows check_flows_of(const SnapshotView &snapshot) {
  CheckFlows flows;
  for (const CheckSource &source : snapshot.check_sources()) {
    for (uint32_t i = 0; i < source.pin_count; ++i) {
      const uint16_t identifier = snapshot.pins()[source.first_pin + i];
      if (identifier == 0) continue;
      const sluice::Backend &backend = snapshot.backends()[identifier];
      flows.emplace(
          BackendKey{std::string(snapshot.text(backend.pool)), std::string(snapshot.text(backend.name))},
          CheckFlow{source.address, backend.address,
                    static_cast<uint16_t>(kFirstCheckPort + kCheckPortsPerPin * i)});
    }
  }
  return flows;
}

}  // namespace sluice::model
