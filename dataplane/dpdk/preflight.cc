#include "dataplane/dpdk/preflight.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

void add_port_lines(const PortReport &port, std::vector<std::string> *lines) {
  lines->push_back(fmt::format("port {}: {} ({}), {}, MTU {}", port.name, port.driver,
                               fmt::join(port.devices, ", "), port.mac, port.mtu));
  lines->push_back(fmt::format("port {}: queues: {} receive of {} descriptors, {} transmit of {}", port.name,
                               port.receive_queues, port.receive_descriptors, port.transmit_queues,
                               port.transmit_descriptors));
  lines->push_back(fmt::format("port {}: spread: {}", port.name, port.spread));
  lines->push_back(fmt::format("port {}: offloads: {}", port.name,
                               port.offloads.empty()
                                   ? "none (inner checksums are left as they are, the outer "
                                     "IPv4 checksum is a few additions)"
                                   : fmt::format("{}", fmt::join(port.offloads, ", "))));
  lines->push_back(fmt::format("port {}: NUMA node: {}", port.name,
                               port.numa_node < 0 ? "none" : std::to_string(port.numa_node)));
  for (const std::string &note : port.notes) lines->push_back(fmt::format("port {}: {}", port.name, note));
  for (const std::string &warning : port.warnings) {
    lines->push_back(fmt::format("port {}: WARNING: {}", port.name, warning));
  }
}

nlohmann::json port_json(const PortReport &port) {
  return {{"name", port.name},
          {"driver", port.driver},
          {"devices", port.devices},
          {"mac", port.mac},
          {"mtu", port.mtu},
          {"receive_queues", port.receive_queues},
          {"transmit_queues", port.transmit_queues},
          {"receive_descriptors", port.receive_descriptors},
          {"transmit_descriptors", port.transmit_descriptors},
          {"numa_node", port.numa_node},
          {"steered", port.steered},
          {"spread", port.spread},
          {"offloads", port.offloads},
          {"notes", port.notes},
          {"warnings", port.warnings}};
}

}  // namespace

void warn_of_remote_memory(Preflight *preflight) {
  for (PortReport &port : preflight->ports) {
    if (port.numa_node < 0) continue;
    for (const WorkerPlacement &worker : preflight->workers) {
      if (worker.numa_node < 0 || worker.numa_node == port.numa_node) continue;
      port.warnings.push_back(fmt::format(
          "it is on NUMA node {} and a worker's core {} is on node {}: give --cores of the port's node",
          port.numa_node, worker.core, worker.numa_node));
    }
  }
}

std::vector<std::string> preflight_lines(const Preflight &preflight) {
  std::vector<std::string> lines = {"memory: " + preflight.memory, "cores: " + preflight.cores,
                                    "idle workers: " + preflight.idle, "buffers: " + preflight.buffers};
  for (const PortReport &port : preflight.ports) add_port_lines(port, &lines);
  return lines;
}

nlohmann::json preflight_json(const Preflight &preflight) {
  nlohmann::json ports = nlohmann::json::array();
  for (const PortReport &port : preflight.ports) ports.push_back(port_json(port));
  return {{"memory", preflight.memory},
          {"cores", preflight.cores},
          {"idle", preflight.idle},
          {"buffers", preflight.buffers},
          {"ports", ports}};
}

}  // namespace sluice
