// A configuration while it is being read: the values with the places they were written at, which the
// checks across services and pools need for their errors.
#ifndef SLUICE_CONTROLPLANE_CONFIG_PLACED_STATE_H
#define SLUICE_CONTROLPLANE_CONFIG_PLACED_STATE_H

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/config/yaml_tree.h"
#include "controlplane/model/desired_state.h"

namespace sluice {

/// `index` is where an element stands in the file's list, which may have others that could not be read.
template <typename Value>
struct Placed {
  Value value{};
  TextPlace place;
  size_t index = 0;
};

struct PlacedQuorum {
  Placed<std::string> backup_pool;  // empty: none
  model::Quorum quorum;             // everything else
};

/// Lists hold what could be read.
struct PlacedService {
  size_t index = 0;
  TextPlace place;  // of the whole service
  Placed<std::string> name;
  std::vector<Placed<Address>> vips;
  std::vector<Placed<model::PortSpan>> ports;
  Placed<std::string> pool;
  std::optional<model::Protocol> protocol;  // absent: could not be read
  std::optional<PlacedQuorum> quorum;
  model::Service service;  // everything else
};

struct PlacedBackend {
  size_t index = 0;
  Placed<std::string> name;
  Placed<Address> address;
  model::BackendSpec backend;  // everything else
};

struct PlacedPool {
  size_t index = 0;
  Placed<std::string> name;
  Placed<uint32_t> slots;
  std::vector<PlacedBackend> backends;
  std::optional<TextPlace> missing_check_port;  // where "health" is, if it needs a port and names none
  std::optional<TextPlace> through_dataplane;   // where "via: dataplane" is
  std::optional<Address> check_vip;             // that this names
  model::Pool pool;                             // everything else
};

/// A service that somebody may do something with.
struct GrantedService {
  std::string field;  // "api.clients[0].services[1]"
  Placed<std::string> name;
};

struct PlacedApi {
  model::ApiSpec spec;
  std::vector<GrantedService> granted;
};

struct PlacedState {
  PlacedApi api;
  std::vector<PlacedService> services;
  std::vector<PlacedPool> pools;
  bool has_pools = false;     // "pools" is a list: what is not in it is not there
  model::DesiredState state;  // everything else
};

}  // namespace sluice

#endif
