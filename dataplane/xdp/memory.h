// The memory that outlives a process: connection tables and counters in maps, those that are pinned when they
// fit, else new ones with what the connection file holds; and the first program over them.
#ifndef SLUICE_XDP_MEMORY_H
#define SLUICE_XDP_MEMORY_H

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/xdp/forwarding_program.h"
#include "dataplane/xdp/pins.h"

namespace sluice {

struct XdpMemoryOptions {
  ConnectionRegionOptions connections;  // worker_count: CPUs
  FrameBuffers buffers = FrameBuffers::kOne;
  std::vector<uint32_t> port_ifindexes;  // by port index
};

struct XdpMemory {
  std::unique_ptr<ForwardingProgram> program;
  std::unique_ptr<ConnectionRegion> connections;  // in the program's map
  std::unique_ptr<CounterRegion> counters;        // in the program's map
  // What the connections were copied from, locked: to be discarded when their map is pinned.
  std::optional<ConnectionRegion> file;
};

/// Loads a program over the pinned maps if they fit `options` and packets run through them; its entries are
/// live, and nothing is done to them. Pinned maps that do not fit are released first (release.h). Otherwise
/// the connections are those of the file, as ConnectionRegion::open finds them. Active connections are as the
/// tables say. Errors: what the kernel, the file or the options say.
[[nodiscard]] Result<XdpMemory> open_memory(const XdpMemoryOptions &options, const Pins &pins);

/// The shape of the XDP engine's counters.
CounterRegionShape xdp_counter_shape(uint32_t workers);

}  // namespace sluice

#endif
