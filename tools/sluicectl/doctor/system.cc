#include "tools/sluicectl/doctor/system.h"

#include <algorithm>

namespace sluice::ctl {

namespace {

using nlohmann::json;

bool is_pci_address(const std::string &device) {
  // 0000:01:00.0
  return device.size() == 12 && device[4] == ':' && device[7] == ':' && device[10] == '.';
}

PortFacts port_of(const json &port, const std::string &engine) {
  PortFacts facts;
  facts.name = port.value("name", "");
  facts.interface = port.value("interface", "");
  facts.kernel_interface = engine == "xdp" ? facts.interface : port.value("kernel_interface", "");
  for (const json &device : port.value("devices", json::array())) {
    const auto name = device.get<std::string>();
    if (is_pci_address(name)) facts.pci = name;
  }
  facts.mode = port.value("mode", "");
  facts.mtu = port.value("mtu", 0);
  facts.numa_node = port.value("numa_node", -1);
  facts.warnings = port.value("warnings", std::vector<std::string>());
  return facts;
}

}  // namespace

SystemFacts facts_of(const json &status, const json &backends) {
  SystemFacts facts;
  facts.status = status;
  // Not told to a token for single services, nor while the dataplane does not answer.
  if (!facts.status.at("dataplane").at("details").is_object())
    facts.status["dataplane"]["details"] = json::object();
  facts.backends = backends.at("backends");
  const json &dataplane = facts.status.at("dataplane");
  if (!dataplane.at("connected").get<bool>()) return facts;
  facts.engine = dataplane.at("engine").get<std::string>();
  const json &details = dataplane.at("details");
  for (const json &port : details.value("ports", json::array()))
    facts.ports.push_back(port_of(port, facts.engine));
  for (const json &worker : details.value("workers", json::array()))
    facts.worker_cores.push_back(worker.value("core", -1));
  facts.idle = details.value("host", json::object()).value("idle", "");
  return facts;
}

}  // namespace sluice::ctl
