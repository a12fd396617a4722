// The preflight report: what was chosen for the host, each port and each worker, and why.
#ifndef SLUICE_DPDK_PREFLIGHT_H
#define SLUICE_DPDK_PREFLIGHT_H

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "dataplane/dpdk/port.h"

namespace sluice {

/// What one worker runs on.
struct WorkerPlacement {
  int core = 0;
  int numa_node = -1;  // -1: the host has none
};

/// Everything that the report says.
struct Preflight {
  std::string memory;   // huge pages or not, and why
  std::string cores;    // who runs where, and why
  std::string idle;     // poll or sleep
  std::string buffers;  // how many, of what size
  std::vector<WorkerPlacement> workers;
  std::vector<PortReport> ports;
};

/// Adds a warning to each port whose NUMA node is not that of the workers that serve it.
void warn_of_remote_memory(Preflight *preflight);

/// One finding per line, warnings marked; for the log.
std::vector<std::string> preflight_lines(const Preflight &preflight);

/// The same for programs.
nlohmann::json preflight_json(const Preflight &preflight);

}  // namespace sluice

#endif
