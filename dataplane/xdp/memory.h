// The memory that outlives a process: connection tables and counters in maps, those that are pinned when they
// fit, else new ones with what the connection file holds; and the first program over them.
#ifndef SLUICE_XDP_MEMORY_H
#define SLUICE_XDP_MEMORY_H

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/connection_file.h"
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
  // Brings over the connections of tables that are of another size and still in use: to be called as late as
  // can be, before the program's first packet. Empty: there are none.
  std::function<void()> bring_over;
  // The file, locked, if there is one: to be discarded when the maps are pinned.
  std::optional<ConnectionFile> file;
};

/// Loads a program, and changes nothing of what is there. It goes on in the maps that packets run through now
/// (earlier.h) if they fit `options`; their entries are live, and nothing is done to them. Otherwise it gets
/// maps of its own with the connections of before: of the maps in use (bring_over), or of the pinned map or
/// the file, whichever was left later. Active connections are as the tables say. Errors: what the kernel, the
/// file or the options say.
[[nodiscard]] Result<XdpMemory> open_memory(const XdpMemoryOptions &options, const Pins &pins);

/// The shape of the XDP engine's counters.
CounterRegionShape xdp_counter_shape(uint32_t workers);

}  // namespace sluice

#endif
