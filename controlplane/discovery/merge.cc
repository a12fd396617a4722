#include "controlplane/discovery/merge.h"

#include <algorithm>
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

Status room_in(const model::Pool &pool, size_t found) {
  const size_t all = pool.backends.size() + found;
  if (all > pool.slots)
    return Error{fmt::format("pool {} would have {} backends and has {} slots", pool.name, all, pool.slots)};
  if (pool.health.vip && all > size_t{kMaxPinsOfSource})
    return Error{fmt::format(
        "pool {} would have {} backends, and {} can be checked through the data path from one source",
        pool.name, all, size_t{kMaxPinsOfSource})};
  return Done{};
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
  if (pool.health.checks() && !pool.health.vip) backend.check_address = found.check_address;
  if (checks_ports(pool)) backend.check_port = found.check_port;
  return backend;
}

}  // namespace

FoundLimits::FoundLimits(const model::DesiredState &configured) {
  for (const model::Service &service : configured.services)
    vips_.insert(service.vips.begin(), service.vips.end());
  for (const model::Pool &pool : configured.pools) {
    own_backends_ += pool.backends.size();
    if (!pool.discovery.finds()) continue;
    Own own{&pool, {}, {}};
    for (const model::BackendSpec &backend : pool.backends) {
      own.names.insert(backend.name);
      own.addresses.insert(backend.address);
    }
    pools_.emplace(pool.name, std::move(own));
  }
}

FoundLimits::Clash FoundLimits::clash_of(const Own &own, const FoundBackend &found) const {
  if (vips_.contains(found.address)) return Clash::kVip;
  if (own.names.contains(found.name)) return Clash::kName;
  return own.addresses.contains(found.address) ? Clash::kAddress : Clash::kNone;
}

std::string FoundLimits::text(Clash clash, const FoundBackend &found) {
  const std::string address = format_address(found.address);
  switch (clash) {
    case Clash::kNone:
      break;
    case Clash::kVip:
      return fmt::format("{}: {} is a VIP", found.name, address);
    case Clash::kName:
      return fmt::format("{} ({}): the configuration has a backend of that name", found.name, address);
    case Clash::kAddress:
      return fmt::format("{}: the configuration has a backend with the address {}", found.name, address);
  }
  return "";
}

std::string FoundLimits::conflict(const std::string &pool, const FoundBackend &found) const {
  const auto known = pools_.find(pool);
  return known == pools_.end() ? "" : text(clash_of(known->second, found), found);
}

Result<std::vector<model::BackendSpec>> FoundLimits::usable(const model::Pool &pool,
                                                            const std::vector<FoundBackend> &found,
                                                            SkippedEntries *left_out) const {
  const Own &own = pools_.at(pool.name);
  std::vector<model::BackendSpec> usable;
  for (const FoundBackend &backend : found) {
    const Clash clash = clash_of(own, backend);
    if (clash == Clash::kNone) {
      usable.push_back(spec_of(backend, pool));
    } else {
      left_out->add(text(clash, backend));
    }
  }
  if (const Status room = room_in(pool, usable.size()); !room.ok()) return room.error();
  return usable;
}

Status FoundLimits::fits(const std::string &pool, const std::vector<FoundBackend> &found, size_t others,
                         SkippedEntries *left_out) const {
  const auto known = pools_.find(pool);
  if (known == pools_.end()) return Done{};  // nobody asks for it any more
  const Own &own = known->second;
  size_t used = 0;
  for (const FoundBackend &backend : found) {
    const Clash clash = clash_of(own, backend);
    if (clash == Clash::kNone) {
      ++used;
    } else {
      left_out->add(text(clash, backend));
    }
  }
  if (Status room = room_in(*own.pool, used); !room.ok()) return room;
  return room_for(own_backends_ + others + used);
}

std::vector<FoundBackend> lost_backends(const model::Pool &before, const model::Pool &pool) {
  std::vector<FoundBackend> lost;
  for (const model::BackendSpec &backend : before.backends) {
    const auto is_same = [&](const model::BackendSpec &own) {
      return own.name == backend.name || own.address == backend.address;
    };
    if (std::ranges::any_of(pool.backends, is_same)) continue;
    lost.push_back({.name = backend.name,
                    .address = backend.address,
                    .weight = backend.weight,
                    .priority = backend.priority,
                    .check_port = backend.check_port,
                    .check_address = backend.check_address,
                    .drain = backend.drain});
  }
  std::ranges::sort(lost, {}, &FoundBackend::name);
  return lost;
}

Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found) {
  const FoundLimits limits(configured);
  Merged merged{configured, {}};
  size_t backends = 0;
  for (model::Pool &pool : merged.state.pools) {
    const auto of_pool = found.find(pool.name);
    if (pool.discovery.finds() && of_pool != found.end()) {
      SkippedEntries left_out;
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

Result<model::DesiredState> with_found(const model::DesiredState &configured, const FoundPools &found) {
  Result<Merged> merged = merge(configured, found);
  if (!merged.ok()) return Error{"with the backends that were found, " + merged.error().message};
  return std::move(merged.value().state);
}

}  // namespace sluice
