#include "controlplane/discovery/merge.h"

#include <utility>

#include <spdlog/fmt/fmt.h>

#include "controlplane/model/check_pins.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

namespace {

Status room_for(size_t backends) {
  if (backends < kMaxBackends) return Done{};
  return Error{fmt::format("all pools would have {} backends; allowed: {}", backends, kMaxBackends - 1)};
}

// A port to check that a source names has a meaning only in a pool whose checks go to a port of the backend's
// own.
bool checks_ports(const model::Pool &pool) {
  return pool.health.checks() && model::has_port(pool.health.kind) && !pool.health.vip;
}

model::BackendSpec spec_of(const FoundBackend &found, const model::Pool &pool) {
  model::BackendSpec backend;
  backend.name = found.name;
  backend.address = found.address;
  backend.weight = found.weight;
  backend.priority = found.priority;
  backend.is_found = true;
  backend.drain = found.drain || found.weight == 0;
  if (checks_ports(pool)) backend.check_port = found.check_port;
  return backend;
}

}  // namespace

FoundLimits::FoundLimits(const model::DesiredState &configured) {
  for (const model::Service &service : configured.services)
    vips_.insert(service.vips.begin(), service.vips.end());
  for (const model::Pool &pool : configured.pools) {
    pools_.emplace(pool.name, &pool);
    own_backends_ += pool.backends.size();
  }
}

Result<std::vector<model::BackendSpec>> FoundLimits::usable(const model::Pool &pool,
                                                            const std::vector<FoundBackend> &found,
                                                            std::vector<std::string> *left_out) const {
  std::set<std::string_view> names;
  std::set<Address> addresses;
  for (const model::BackendSpec &own : pool.backends) {
    names.insert(own.name);
    addresses.insert(own.address);
  }
  std::vector<model::BackendSpec> usable;
  for (const FoundBackend &backend : found) {
    const std::string address = format_address(backend.address);
    if (vips_.contains(backend.address)) {
      left_out->push_back(fmt::format("{}: {} is a VIP", backend.name, address));
    } else if (names.contains(backend.name)) {
      left_out->push_back(
          fmt::format("{} ({}): the configuration has a backend of that name", backend.name, address));
    } else if (addresses.contains(backend.address)) {
      left_out->push_back(
          fmt::format("{}: the configuration has a backend with the address {}", backend.name, address));
    } else {
      usable.push_back(spec_of(backend, pool));
    }
  }
  const size_t all = pool.backends.size() + usable.size();
  if (all > pool.slots)
    return Error{fmt::format("pool {} would have {} backends and has {} slots", pool.name, all, pool.slots)};
  if (pool.health.vip && all > size_t{kMaxPinsOfSource})
    return Error{fmt::format(
        "pool {} would have {} backends, and {} can be checked through the data path from one source",
        pool.name, all, size_t{kMaxPinsOfSource})};
  return usable;
}

Status FoundLimits::fits(const std::string &pool, const std::vector<FoundBackend> &found, size_t others,
                         std::vector<std::string> *left_out) const {
  const auto known = pools_.find(pool);
  if (known == pools_.end()) return Done{};  // nobody asks for it any more
  const auto used = usable(*known->second, found, left_out);
  if (!used.ok()) return used.error();
  return room_for(own_backends_ + others + used.value().size());
}

Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found) {
  const FoundLimits limits(configured);
  Merged merged{configured, {}};
  size_t backends = 0;
  for (model::Pool &pool : merged.state.pools) {
    const auto of_pool = found.find(pool.name);
    if (pool.discovery.finds() && of_pool != found.end()) {
      std::vector<std::string> left_out;
      const auto used = limits.usable(pool, *of_pool->second, &left_out);
      if (!used.ok()) return used.error();
      pool.backends.insert(pool.backends.end(), used.value().begin(), used.value().end());
      if (!left_out.empty()) merged.left_out.emplace(pool.name, std::move(left_out));
    }
    backends += pool.backends.size();
  }
  if (const Status room = room_for(backends); !room.ok()) return room.error();
  return merged;
}

}  // namespace sluice
