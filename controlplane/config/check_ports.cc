#include "controlplane/config/check_ports.h"

#include <set>
#include <string_view>
#include <unordered_map>

namespace sluice {
namespace {

constexpr size_t kMostShown = 4;

// What the services of a pool say of its port.
struct ServicePorts {
  std::set<uint16_t> single;
  bool has_range = false;
};

std::string why_none(const ServicePorts &ports) {
  if (ports.has_range) return "a service of this pool has a range of ports";
  if (ports.single.empty()) return "no service uses this pool";
  std::string text;
  size_t shown = 0;
  for (const uint16_t port : ports.single) {
    if (++shown > kMostShown) return "its services have the ports " + text + " and others";
    text += (text.empty() ? "" : ", ") + std::to_string(port);
  }
  return "its services have the ports " + text;
}

}  // namespace

void fill_check_ports(PlacedState *placed, ErrorList &errors) {
  std::unordered_map<std::string_view, ServicePorts> ports;  // by pool
  for (const PlacedService &service : placed->services) {
    ServicePorts &of_pool = ports[service.pool.value];
    for (const Placed<model::PortSpan> &port : service.ports) {
      if (port.value.size() == 1) of_pool.single.insert(port.value.first);
      of_pool.has_range = of_pool.has_range || port.value.size() > 1;
    }
  }
  for (PlacedPool &pool : placed->pools) {
    if (!pool.missing_check_port) continue;
    const ServicePorts &of_pool = ports[pool.name.value];
    if (!of_pool.has_range && of_pool.single.size() == 1) {
      pool.pool.health.port = *of_pool.single.begin();
      continue;
    }
    errors.add(*pool.missing_check_port, "pools[" + std::to_string(pool.index) + "].health", "",
               "key \"port\" is missing; add it: " + why_none(of_pool));
  }
}

}  // namespace sluice
