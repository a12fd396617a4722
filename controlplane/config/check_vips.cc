#include "controlplane/config/check_vips.h"

#include <algorithm>
#include <map>
#include <string>

#include "controlplane/model/check_pins.h"

namespace sluice {
namespace {

bool has_source_for(const model::HealthSpec &health, const Address &vip) {
  return (address_is_ipv4(&vip) ? health.source_ipv4 : health.source_ipv6).has_value();
}

class CheckVips {
 public:
  CheckVips(PlacedState *placed, ErrorList &errors) : placed_(*placed), errors_(errors) {}

  void run() {
    for (PlacedPool &pool : placed_.pools) {
      if (!pool.through_dataplane || pool.pool.health.port == 0) continue;
      refuse_other_addresses(pool);
      choose_vip(&pool);
      if (pool.pool.health.vip) count_flows(pool);
    }
  }

 private:
  void error(const PlacedPool &pool, const std::string &key, const std::string &message) {
    errors_.add(*pool.through_dataplane, "pools[" + std::to_string(pool.index) + "].health." + key, "",
                message);
  }

  void refuse_other_addresses(const PlacedPool &pool) {
    for (const PlacedBackend &backend : pool.backends) {
      if (!backend.backend.check_address && backend.backend.check_port == 0) continue;
      error(pool, "via",
            "\"dataplane\" asks each backend as clients do, but backend " + in_quotes(backend.name.value) +
                " has a check of its own; remove one of the two");
    }
  }

  static bool uses(const PlacedService &service, const std::string &pool) {
    return service.pool.value == pool || (service.quorum && service.quorum->backup_pool.value == pool);
  }

  bool takes(const PlacedService &service, const PlacedPool &pool) const {
    const model::HealthSpec &health = pool.pool.health;
    const auto holds = [&](const Placed<model::PortSpan> &port) {
      return port.value.first <= health.port && health.port <= port.value.last;
    };
    return uses(service, pool.name.value) && service.protocol == model::transport_of(health.kind) &&
           std::ranges::any_of(service.ports, holds);
  }

  // Whether the pool's checks can ask this VIP.
  static bool is_wanted(const PlacedPool &pool, const Address &vip) {
    const std::optional<Address> &named = pool.check_vip;
    return named ? *named == vip : has_source_for(pool.pool.health, vip);
  }

  void choose_vip(PlacedPool *pool) {
    bool has_service = false;
    for (const PlacedService &service : placed_.services) {
      if (!takes(service, *pool)) continue;
      has_service = true;
      for (const Placed<Address> &vip : service.vips) {
        if (!is_wanted(*pool, vip.value)) continue;
        pool->pool.health.vip = vip.value;
        break;
      }
      if (pool->pool.health.vip) break;
    }
    const std::optional<Address> &vip = pool->pool.health.vip;
    if (vip && has_source_for(pool->pool.health, *vip)) return;
    const bool found = vip.has_value();
    pool->pool.health.vip.reset();
    const std::string where = std::string(model::transport_of(pool->pool.health.kind) == model::Protocol::kTcp
                                              ? "a tcp service on port "
                                              : "a udp service on port ") +
                              std::to_string(pool->pool.health.port);
    if (!has_service) {
      error(*pool, "via", "\"dataplane\" needs " + where + " that uses this pool");
    } else if (pool->check_vip && !found) {
      error(*pool, "vip",
            format_address(*pool->check_vip) + " is no VIP of " + where + " that uses this pool");
    } else {
      error(*pool, "via", "\"dataplane\" needs a source of the family of its VIP; add it to source");
    }
  }

  void count_flows(const PlacedPool &pool) {
    const Address &source = model::check_source(pool.pool);
    for (const PlacedService &service : placed_.services) {
      const bool is_vip =
          std::ranges::any_of(service.vips, [&](const Placed<Address> &one) { return one.value == source; });
      if (is_vip) return error(pool, "source", in_quotes(format_address(source)) + " is a VIP");
    }
    size_t &flows = flows_[source];
    const bool had_room = flows <= size_t{kMaxPinsOfSource};
    flows += pool.backends.size();
    if (had_room && flows > size_t{kMaxPinsOfSource}) {
      error(pool, "source",
            std::to_string(flows) + " backends up to here are checked through the data path from " +
                format_address(source) + "; allowed: " + std::to_string(size_t{kMaxPinsOfSource}) +
                "; give this pool another source");
    }
    if (flows_.size() == size_t{kMaxCheckSources} + 1) {
      error(pool, "source",
            "checks through the data path come from more than " + std::to_string(int{kMaxCheckSources}) +
                " addresses");
    }
  }

  PlacedState &placed_;
  ErrorList &errors_;
  std::map<Address, size_t> flows_;  // by source
};

}  // namespace

void fill_check_vips(PlacedState *placed, ErrorList &errors) { CheckVips(placed, errors).run(); }

}  // namespace sluice
