#include "tests/vectors/vector_file.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

namespace sluice {
namespace {

using Json = nlohmann::json;

Json read_json(const std::string &name) {
  std::ifstream file(SLUICE_VECTOR_DIRECTORY "/" + name);
  if (!file) {
    std::fprintf(stderr, "cannot read %s/%s\n", SLUICE_VECTOR_DIRECTORY, name.c_str());
    std::abort();
  }
  return Json::parse(file);
}

/// A frame is written as one string of hexadecimal digits for each header.
Bytes frame_bytes(const Json &layers) {
  Bytes bytes;
  for (const Json &layer : layers) bytes = bytes + hex_bytes(layer.get<std::string>());
  return bytes;
}

VectorStep read_step(const Json &json) {
  VectorStep step;
  if (json.contains("change")) {
    step.changed_backend = json["change"].value("backend", 0u);
    step.changed_state = json["change"].value("state", "");
    step.changed_adoption_lookups = json["change"].value("adoption_lookups", 0u);
    return step;
  }
  step.now_s = json["now"];
  step.worker = json.value("worker", 0u);
  step.frame = frame_bytes(json["frame"]);
  step.verdict = json["verdict"];
  step.backend = json.value("backend", 0u);
  if (json.contains("out")) step.out = frame_bytes(json["out"]);
  return step;
}

std::vector<PortRange> read_ranges(const Json &json, const std::map<std::string, uint32_t> &services) {
  std::vector<PortRange> ranges;
  for (const Json &range : json) ranges.push_back({range[0], range[1], services.at(range[2])});
  return ranges;
}

Bytes slice(const Bytes &bytes, size_t offset) {
  return offset < bytes.size() ? Bytes(bytes.begin() + static_cast<ptrdiff_t>(offset), bytes.end()) : Bytes();
}

std::string wrong_transport(const Bytes &packet, size_t offset, uint8_t protocol, const Bytes &addresses) {
  const Bytes segment = slice(packet, offset);
  const Bytes pseudo = addresses + be32_bytes(static_cast<uint32_t>(segment.size())) + be32_bytes(protocol);
  if (protocol == kProtocolIcmp) return ones_complement_sum(segment) == 0xffff ? "" : "ICMP; ";
  return ones_complement_sum(pseudo + segment) == 0xffff ? "" : "protocol " + std::to_string(protocol) + "; ";
}

bool has_checksum(uint8_t protocol) {
  return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kProtocolIcmp ||
         protocol == kProtocolIcmpv6;
}

std::string wrong_in_ip(const Bytes &packet) {
  std::string wrong;
  if (packet.at(0) >> 4 == 4) {
    const size_t header = (packet[0] & 15) * 4u;
    if (ones_complement_sum(packet.data(), header) != 0xffff) wrong += "IPv4 header; ";
    if (get_be16(packet, 2) != packet.size()) wrong += "IPv4 length; ";
    if (packet[9] == kProtocolIpv4 || packet[9] == kProtocolIpv6)
      return wrong + wrong_in_ip(slice(packet, header));
    const bool whole = (get_be16(packet, 6) & 0x3fff) == 0;
    const Bytes addresses(packet.begin() + 12, packet.begin() + 20);
    return whole && has_checksum(packet[9]) ? wrong + wrong_transport(packet, header, packet[9], addresses)
                                            : wrong;
  }
  if (get_be16(packet, 4) + 40u != packet.size()) wrong += "IPv6 length; ";
  if (packet[6] == kProtocolIpv4 || packet[6] == kProtocolIpv6) return wrong + wrong_in_ip(slice(packet, 40));
  const Bytes addresses(packet.begin() + 8, packet.begin() + 40);
  return has_checksum(packet[6]) ? wrong + wrong_transport(packet, 40, packet[6], addresses) : wrong;
}

}  // namespace

std::vector<Vector> load_vectors() {
  std::vector<Vector> vectors;
  for (const char *file :
       {"pairings", "fields", "connections", "checks", "icmp_errors", "kernel", "drops", "too_big"}) {
    const Json document = read_json(std::string(file) + ".json");
    for (const Json &json : document["vectors"]) {
      Vector vector = {std::string(file) + "." + json["name"].get<std::string>(), {}};
      for (const Json &step : json["steps"]) vector.steps.push_back(read_step(step));
      vectors.push_back(std::move(vector));
    }
  }
  return vectors;
}

VectorTables::VectorTables() : description_(std::make_unique<Json>(read_json("tables.json"))) {
  for (auto &worker : workers_) worker = std::make_unique<TestTables>(snapshot());
  workers_[0]->set_peers({workers_[1].get()});
  workers_[1]->set_peers({workers_[0].get()});
  apply_egress();
}

VectorTables::~VectorTables() = default;

void VectorTables::change(const VectorStep &step) {
  if (step.changed_backend == 0) {
    for (auto &worker : workers_)
      for (uint32_t &budget : worker->adoption_budgets) budget = step.changed_adoption_lookups;
    return;
  }
  const std::map<std::string, BackendState> names = {{"up", kBackendUp},
                                                     {"draining", kBackendDraining},
                                                     {"down", kBackendDown},
                                                     {"closed", kBackendClosed},
                                                     {"gone", kBackendUnused}};
  states_[step.changed_backend] = names.at(step.changed_state);
  for (auto &worker : workers_) worker->use_snapshot(snapshot());
  apply_egress();
}

SnapshotBuilder VectorTables::snapshot() const {
  const Json &json = *description_;
  SnapshotBuilder builder;
  for (size_t i = 0; i < std::size(builder.flow_hash_key.word); i++)
    builder.flow_hash_key.word[i] = json["flow_hash_key"][i];
  for (const Json &backend : json["backends"]) builder.add_backend("pool", "backend", backend["address"]);
  for (const auto &[backend, state] : states_) builder.set_state(backend, state);
  std::map<std::string, uint32_t> pools, services;
  for (const auto &[name, members] : json["pools"].items())
    pools[name] = builder.add_pool(members.get<std::vector<uint32_t>>(), json["slots_per_pool"]);
  const std::map<std::string, Scheduler> schedulers = {{"maglev", kSchedulerMaglev},
                                                       {"least-connection", kSchedulerLeastConnection}};
  for (const auto &[name, service] : json["services"].items())
    services[name] =
        builder.add_service(name, pools.at(service["pool"]), schedulers.at(service["scheduler"]));
  for (const Json &source : json["check_sources"])
    builder.add_check_source(source["address"], source["pins"]);
  for (const Json &vip : json["vips"])
    builder.add_vip(vip["address"], read_ranges(vip["tcp"], services), read_ranges(vip["udp"], services));
  return builder;
}

/// What the server would learn from the kernel: the vectors' own MTU and link addresses.
void VectorTables::apply_egress() {
  const Json &json = *description_;
  for (auto &worker : workers_) {
    for (uint32_t i = 1; i <= json["backends"].size(); i++) {
      const Json &backend = json["backends"][i - 1];
      EgressFields fields;
      fields.backend = backend["address"];
      fields.ethernet = hex_bytes("0200000000b1 0200000000a1");
      fields.mtu = json["outer_mtu"];
      fields.flags = worker->egress(i).flags;
      if (!backend["next_hop"].get<bool>()) fields.flags &= static_cast<uint8_t>(~kEgressReady);
      worker->egress(i) = make_egress(fields);
    }
  }
}

std::string wrong_checksums(const Bytes &frame) {
  size_t type = 12;
  while (get_be16(frame, type) == kEtherTypeVlan || get_be16(frame, type) == kEtherTypeQinq) type += 4;
  return wrong_in_ip(slice(frame, type + 2));
}

}  // namespace sluice
