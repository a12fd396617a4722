// What sluiced says of the running system, as the doctor's checks need it.
#ifndef SLUICE_TOOLS_SLUICECTL_DOCTOR_SYSTEM_H
#define SLUICE_TOOLS_SLUICECTL_DOCTOR_SYSTEM_H

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace sluice::ctl {

struct PortFacts {
  std::string name;
  std::string interface;         // of the kernel, that packets come by; empty: the NIC is DPDK's
  std::string kernel_interface;  // DPDK: its tap; XDP: the interface
  std::string pci;               // address of a NIC that is DPDK's; empty: none
  std::string mode;              // XDP
  int mtu = 0;                   // bytes; 0: not known
  int numa_node = -1;            // -1: none
  std::vector<std::string> warnings;
};

struct SystemFacts {
  std::string unreachable;  // why sluiced does not answer; empty: it does
  std::string engine;       // "dpdk", "xdp"; empty: not known, the dataplane is away
  std::vector<PortFacts> ports;
  std::vector<int> worker_cores;
  std::string idle;  // DPDK: "poll...", "sleep ..."
  nlohmann::json status;
  nlohmann::json backends;  // a list

  bool may_be(const std::string &name) const { return engine.empty() || engine == name; }
};

/// Of the answers to /v1/status and /v1/backends. Throws nlohmann::json::exception where these are not what
/// sluiced of this version answers.
SystemFacts facts_of(const nlohmann::json &status, const nlohmann::json &backends);

}  // namespace sluice::ctl

#endif
