#include "controlplane/config/document_reader.h"

#include <array>
#include <span>

#include "controlplane/config/api_reader.h"
#include "controlplane/config/discovery_reader.h"
#include "controlplane/config/health_reader.h"
#include "controlplane/config/lifecycle_reader.h"
#include "controlplane/config/passive_reader.h"
#include "controlplane/config/tls_reader.h"
#include "controlplane/model/prime.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kConfigVersion = 1;
constexpr uint32_t kMinSlots = 101;
constexpr size_t kMaxVipsPerService = 4096;
constexpr size_t kMaxPortsPerService = 4096;

constexpr std::array<std::string_view, 7> kDocumentKeys = {
    "version", "flow_hash_key", "removed_backend_grace", "max_moved", "services", "pools", "api"};
constexpr std::array<std::string_view, 2> kMaxMovedKeys = {"slots", "connections"};
constexpr std::array<std::string_view, 8> kServiceKeys = {"name", "vips",      "protocol", "ports",
                                                          "pool", "scheduler", "timeouts", "quorum"};
constexpr std::array<std::string_view, 4> kTimeoutKeys = {"embryonic", "established", "closing", "udp"};
constexpr std::array<std::string_view, 11> kPoolKeys = {
    "name",       "forwarding",     "slots",        "fail_open", "backends", "health",
    "slow_start", "drain_deadline", "flap_damping", "discovery", "passive"};
constexpr std::array<std::string_view, 6> kBackendKeys = {"name",  "address",  "weight",
                                                          "drain", "priority", "check"};
constexpr uint32_t kMaxPriority = 65534;
constexpr std::array<std::string_view, 2> kCheckKeys = {"address", "port"};

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

class DocumentReader {
 public:
  explicit DocumentReader(ErrorList &errors) : reader_(errors) {}

  PlacedState read(const YamlNode &root) {
    PlacedState placed;
    const Field document{&root};
    if (!reader_.is_map(document, kDocumentKeys)) return placed;
    if (const auto version = reader_.require(document, "version")) {
      reader_.number(*version, kConfigVersion, kConfigVersion);
    }
    if (const auto key = reader_.find(document, "flow_hash_key")) {
      placed.state.flow_hash_key = reader_.flow_hash_key(*key);
    }
    if (const auto grace = reader_.find(document, "removed_backend_grace")) {
      put(reader_.seconds(*grace, 1s, 720h), &placed.state.removed_backend_grace);
    }
    if (const auto max_moved = reader_.find(document, "max_moved"))
      read_max_moved(*max_moved, &placed.state.max_moved);
    if (const auto api = reader_.find(document, "api")) placed.api = read_api(*api, reader_);
    read_each(document, "services", &placed.services, &DocumentReader::read_service);
    placed.has_pools = read_each(document, "pools", &placed.pools, &DocumentReader::read_pool);
    return placed;
  }

 private:
  // Whether there is such a list.
  template <typename Element>
  bool read_each(const Field &map, std::string_view key, std::vector<Element> *elements,
                 Element (DocumentReader::*read_one)(const Field &)) {
    const auto list = reader_.require(map, key);
    if (!list || !reader_.is_list(*list)) return false;
    for (size_t i = 0; i < list->node->items.size(); ++i) {
      Element element = (this->*read_one)(list->item(i));
      element.index = i;
      elements->push_back(std::move(element));
    }
    return true;
  }

  void read_max_moved(const Field &field, model::MaxMoved *max_moved) {
    if (!reader_.is_map(field, kMaxMovedKeys)) return;
    if (const auto slots = reader_.find(field, "slots"))
      put(reader_.percent(*slots), &max_moved->slots_percent);
    if (const auto connections = reader_.find(field, "connections"))
      put(reader_.percent(*connections), &max_moved->connections_percent);
  }

  Placed<std::string> read_name(const Field &map, std::string_view key) {
    const auto field = reader_.require(map, key);
    if (!field) return {};
    return {reader_.name(*field).value_or(""), field->node->place, 0};
  }

  PlacedService read_service(const Field &field) {
    PlacedService placed;
    placed.place = field.node->place;
    if (!reader_.is_map(field, kServiceKeys)) return placed;
    model::Service &service = placed.service;
    placed.name = read_name(field, "name");
    read_vips(field, &placed);
    if (const auto protocol = reader_.require(field, "protocol")) {
      using enum model::Protocol;
      placed.protocol = reader_.choice<model::Protocol>(*protocol, {{"tcp", kTcp}, {"udp", kUdp}});
    }
    read_ports(field, &placed);
    placed.pool = read_name(field, "pool");
    if (const auto scheduler = reader_.find(field, "scheduler")) {
      using enum model::Scheduler;
      put(reader_.choice<model::Scheduler>(*scheduler,
                                           {{"maglev", kMaglev}, {"least-connection", kLeastConnection}}),
          &service.scheduler);
    }
    if (const auto timeouts = reader_.find(field, "timeouts")) read_timeouts(*timeouts, &service.timeouts);
    if (const auto quorum = reader_.find(field, "quorum")) placed.quorum = read_quorum(*quorum, reader_);
    return placed;
  }

  // Whether `list` is a list of 1 to `max` elements.
  bool is_filled_list(const Field &list, size_t max) {
    if (!reader_.is_list(list)) return false;
    const size_t count = list.node->items.size();
    if (count >= 1 && count <= max) return true;
    reader_.error(list, "has " + std::to_string(count) + " elements; allowed: 1 to " + std::to_string(max));
    return false;
  }

  void read_vips(const Field &service, PlacedService *placed) {
    const auto vips = reader_.require(service, "vips");
    if (!vips || !is_filled_list(*vips, kMaxVipsPerService)) return;
    for (size_t i = 0; i < vips->node->items.size(); ++i) {
      const Field item = vips->item(i);
      if (const auto address = reader_.address(item)) placed->vips.push_back({*address, item.node->place, i});
    }
  }

  void read_ports(const Field &service, PlacedService *placed) {
    const auto ports = reader_.require(service, "ports");
    if (!ports) return;
    if (ports->node->kind == YamlKind::kScalar) {
      if (ports->node->text == "all") {
        placed->ports.push_back({model::PortSpan{}, ports->node->place, 0});
      } else {
        reader_.error(*ports, in_quotes(ports->node->text) +
                                  " is no list of ports; allowed: all, or a list such as "
                                  "[80, 443, \"8000-8999\"]");
      }
      return;
    }
    if (!is_filled_list(*ports, kMaxPortsPerService)) return;
    for (size_t i = 0; i < ports->node->items.size(); ++i) {
      const Field item = ports->item(i);
      if (const auto span = reader_.port_span(item)) placed->ports.push_back({*span, item.node->place, i});
    }
  }

  void read_timeouts(const Field &field, model::Timeouts *timeouts) {
    if (!reader_.is_map(field, kTimeoutKeys)) return;
    const std::pair<std::string_view, seconds *> fields[] = {{"embryonic", &timeouts->embryonic},
                                                             {"established", &timeouts->established},
                                                             {"closing", &timeouts->closing},
                                                             {"udp", &timeouts->udp}};
    for (const auto &[key, timeout] : fields) {
      const auto value = FieldReader::find(field, key);
      if (value) put(reader_.seconds(*value, 1s, seconds(SLUICE_MAX_TIMEOUT_S)), timeout);
    }
  }

  PlacedPool read_pool(const Field &field) {
    PlacedPool placed;
    placed.slots = {model::Pool{}.slots, field.node->place, 0};
    if (!reader_.is_map(field, kPoolKeys)) return placed;
    placed.name = read_name(field, "name");
    if (const auto forwarding = reader_.find(field, "forwarding")) {
      reader_.choice<model::Forwarding>(*forwarding, {{"ipip", model::Forwarding::kIpip}});
    }
    if (const auto slots = reader_.find(field, "slots")) read_slots(*slots, &placed);
    if (const auto fail_open = reader_.find(field, "fail_open")) {
      put(reader_.boolean(*fail_open), &placed.pool.fail_open);
    }
    read_pool_lifecycle(field, reader_, &placed.pool);
    health_ = {};
    const auto health = reader_.find(field, "health");
    if (health) health_ = read_health(*health, reader_);
    placed.pool.health = health_;
    if (health && model::needs_port(health_.kind) && !FieldReader::find(*health, "port")) {
      placed.missing_check_port = health->node->place;
    }
    if (health) read_way(*health, &placed);
    if (const auto passive = reader_.find(field, "passive"))
      placed.pool.passive = read_passive(*passive, reader_);
    if (const auto damping = reader_.find(field, "flap_damping"); damping && !health_.checks())
      reader_.error(*damping,
                    "has no meaning in a pool without health checks; remove it or give the pool a health");
    const auto discovery = reader_.find(field, "discovery");
    if (discovery) placed.pool.discovery = read_discovery(*discovery, reader_);
    if (!discovery || reader_.find(field, "backends")) {
      read_each(field, "backends", &placed.backends, &DocumentReader::read_backend);
    }
    return placed;
  }

  // check_vips.h
  void read_way(const Field &health, PlacedPool *placed) {
    const auto via = FieldReader::find(health, "via");
    const auto vip = FieldReader::find(health, "vip");
    const bool through = via && via->node->text == "dataplane";
    if (through) placed->through_dataplane = via->node->place;
    if (!vip) return;
    placed->check_vip = reader_.address(*vip);
    if (!through) reader_.error(*vip, "has no meaning without via: dataplane; add it or remove this");
  }

  void read_slots(const Field &field, PlacedPool *placed) {
    const auto slots = reader_.number(field, kMinSlots, kMaxSlotsPerTable);
    if (!slots) return;
    placed->slots = {*slots, field.node->place, 0};
    if (is_prime(*slots)) return;
    uint32_t next_prime = *slots;
    while (!is_prime(next_prime)) ++next_prime;
    uint32_t prime = *slots;
    while (!is_prime(prime)) --prime;
    reader_.error(field, in_quotes(field.node->text) + " is not a prime number; allowed: primes from " +
                             std::to_string(kMinSlots) + " to " + std::to_string(kMaxSlotsPerTable) +
                             " such as " +
                             std::to_string(next_prime <= kMaxSlotsPerTable ? next_prime : prime));
  }

  PlacedBackend read_backend(const Field &field) {
    PlacedBackend placed;
    if (!reader_.is_map(field, kBackendKeys)) return placed;
    placed.name = read_name(field, "name");
    if (const auto address = reader_.require(field, "address")) {
      placed.address = {reader_.address(*address).value_or(Address{}), address->node->place, 0};
    }
    if (const auto weight = reader_.find(field, "weight")) {
      const auto number = reader_.number(*weight, 0, kMaxWeight);
      if (number) placed.backend.weight = static_cast<uint16_t>(*number);
    }
    if (const auto drain = reader_.find(field, "drain")) put(reader_.boolean(*drain), &placed.backend.drain);
    if (placed.backend.weight == 0) placed.backend.drain = true;
    if (const auto priority = reader_.find(field, "priority")) {
      const auto number = reader_.number(*priority, 0, kMaxPriority);
      if (number) placed.backend.priority = static_cast<uint16_t>(*number);
    }
    if (const auto check = reader_.find(field, "check")) read_check(*check, &placed.backend);
    return placed;
  }

  void read_check(const Field &field, model::BackendSpec *backend) {
    if (!reader_.is_map(field, kCheckKeys)) return;
    if (!health_.checks()) {
      return reader_.error(
          field, "has no meaning in a pool without health checks; remove it or give the pool a health");
    }
    if (const auto address = reader_.find(field, "address"))
      backend->check_address = reader_.address(*address);
    const auto port = reader_.find(field, "port");
    if (!port) return;
    if (!model::has_port(health_.kind)) {
      return reader_.error(*port,
                           "has no meaning with type " + std::string(model::health_kind_name(health_.kind)));
    }
    if (const auto number = reader_.number(*port, 1, 65535))
      backend->check_port = static_cast<uint16_t>(*number);
  }

  FieldReader reader_;
  model::HealthSpec health_;  // of the pool that is being read
};

}  // namespace

std::vector<std::string> configuration_keys() {
  std::vector<std::string> paths;
  const auto add = [&paths](const std::string &prefix, std::span<const std::string_view> keys) {
    for (const std::string_view key : keys) paths.push_back(prefix + std::string(key));
  };
  add("", kDocumentKeys);
  add("max_moved.", kMaxMovedKeys);
  add("services[].", kServiceKeys);
  add("services[].timeouts.", kTimeoutKeys);
  add("services[].quorum.", quorum_keys());
  add("pools[].", kPoolKeys);
  add("pools[].flap_damping.", flap_damping_keys());
  add("pools[].backends[].", kBackendKeys);
  add("pools[].backends[].check.", kCheckKeys);
  add("pools[].health.", health_keys());
  add("pools[].health.tls.", tls_keys());
  add("pools[].discovery.", discovery_keys());
  add("pools[].discovery.tls.", tls_keys());
  add("pools[].passive.", passive_keys());
  add("api.", api_keys());
  add("api.socket.", api_socket_keys());
  add("api.clients[].", api_client_keys());
  add("api.local[].", api_local_keys());
  add("api.limits.", api_limit_keys());
  return paths;
}

PlacedState read_document(const YamlNode &root, ErrorList &errors) {
  return DocumentReader(errors).read(root);
}

}  // namespace sluice
