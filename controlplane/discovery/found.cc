#include "controlplane/discovery/found.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "dataplane/abi/snapshot.h"

namespace sluice {

Answer tidied(Answer answer) {
  std::ranges::stable_sort(answer.backends, {}, [](const FoundBackend &backend) {
    return std::tie(backend.name, backend.address);
  });
  Answer tidy;
  tidy.skipped = std::move(answer.skipped);
  std::unordered_set<std::string> names;
  std::unordered_set<Address, AddressHash> addresses;
  for (FoundBackend &backend : answer.backends) {
    if (!names.insert(backend.name).second) {
      tidy.skipped.add(
          fmt::format("{} ({}): the name is there twice", backend.name, format_address(backend.address)));
    } else if (!addresses.insert(backend.address).second) {
      tidy.skipped.add(
          fmt::format("{}: the address {} is there twice", backend.name, format_address(backend.address)));
    } else {
      tidy.backends.push_back(std::move(backend));
    }
  }
  return tidy;
}

std::string address_name(const Address &address) {
  std::string name = format_address(address);
  std::ranges::replace(name, ':', '-');
  return name.starts_with('-') ? "0" + name : name;
}

void scale_weights(std::vector<FoundBackend> *backends, const std::vector<uint32_t> &weights, uint16_t same) {
  if (weights.empty()) return;
  const auto [least, most] = std::ranges::minmax(weights);
  for (size_t i = 0; i < backends->size(); ++i) {
    uint64_t weight = same;
    if (least != most) {
      weight = most <= kMaxWeight ? weights[i] : uint64_t{weights[i]} * kMaxWeight / most;
    }
    (*backends)[i].weight = static_cast<uint16_t>(std::max<uint64_t>(1, weight));
  }
}

}  // namespace sluice
