#include "controlplane/discovery/merge.h"

#include <set>
#include <string_view>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "dataplane/abi/snapshot.h"

namespace sluice {

namespace {

using AddressSet = std::set<Address>;

AddressSet vips_of(const model::DesiredState &configured) {
  AddressSet vips;
  for (const model::Service &service : configured.services)
    vips.insert(service.vips.begin(), service.vips.end());
  return vips;
}

// A port to check that a source names has a meaning only in a pool whose checks go to a port.
bool checks_ports(const model::Pool &pool) {
  return pool.health.checks() && model::has_port(pool.health.kind);
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

// Adds what fits beside the pool's own backends, and says of the rest why it does not.
std::vector<std::string> add_found(const std::vector<FoundBackend> &found, const AddressSet &vips,
                                   model::Pool *pool) {
  std::vector<std::string> left_out;
  std::set<std::string> names;
  AddressSet addresses;
  for (const model::BackendSpec &own : pool->backends) {
    names.insert(own.name);
    addresses.insert(own.address);
  }
  const model::Pool &settings = *pool;
  for (const FoundBackend &backend : found) {
    const std::string address = format_address(backend.address);
    if (vips.contains(backend.address)) {
      left_out.push_back(fmt::format("{}: {} is a VIP", backend.name, address));
    } else if (names.contains(backend.name)) {
      left_out.push_back(
          fmt::format("{} ({}): the configuration has a backend of that name", backend.name, address));
    } else if (addresses.contains(backend.address)) {
      left_out.push_back(
          fmt::format("{}: the configuration has a backend with the address {}", backend.name, address));
    } else {
      pool->backends.push_back(spec_of(backend, settings));
    }
  }
  return left_out;
}

}  // namespace

Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found) {
  Merged merged{configured, {}};
  const AddressSet vips = vips_of(configured);
  size_t backends = 0;
  for (model::Pool &pool : merged.state.pools) {
    const auto of_pool = found.find(pool.name);
    if (pool.discovery.finds() && of_pool != found.end()) {
      std::vector<std::string> left_out = add_found(*of_pool->second, vips, &pool);
      if (!left_out.empty()) merged.left_out.emplace(pool.name, std::move(left_out));
    }
    if (pool.backends.size() > pool.slots) {
      return Error{fmt::format("pool {} would have {} backends and has {} slots", pool.name,
                               pool.backends.size(), pool.slots)};
    }
    backends += pool.backends.size();
  }
  if (backends >= kMaxBackends) {
    return Error{fmt::format("all pools would have {} backends; allowed: {}", backends, kMaxBackends - 1)};
  }
  return merged;
}

}  // namespace sluice
