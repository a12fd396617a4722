#include "controlplane/model/pool_timeouts.h"

#include <algorithm>

namespace sluice::model {

Timeouts longest(const Timeouts &a, const Timeouts &b) {
  return {.embryonic = std::max(a.embryonic, b.embryonic),
          .established = std::max(a.established, b.established),
          .closing = std::max(a.closing, b.closing),
          .udp = std::max(a.udp, b.udp)};
}

std::unordered_map<std::string, Timeouts> longest_timeouts_by_pool(const DesiredState &desired) {
  std::unordered_map<std::string, Timeouts> by_pool;
  const auto use = [&by_pool](const std::string &pool, const Timeouts &timeouts) {
    const auto [entry, is_new] = by_pool.emplace(pool, timeouts);
    if (!is_new) entry->second = longest(entry->second, timeouts);
  };
  for (const Service &service : desired.services) {
    use(service.pool, service.timeouts);
    if (service.quorum && !service.quorum->backup_pool.empty())
      use(service.quorum->backup_pool, service.timeouts);
  }
  return by_pool;
}

}  // namespace sluice::model
