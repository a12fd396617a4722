#include "dataplane/xdp/memory.h"

#include <chrono>
#include <string>
#include <utility>

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/active_connections.h"
#include "dataplane/xdp/map_memory.h"
#include "dataplane/xdp/port_attachment.h"
#include "dataplane/xdp/release.h"

namespace sluice {
namespace {

/// Maps of a process before this one, to go on with; invalid descriptors: none.
struct KeptMaps {
  UniqueFd connections;
  UniqueFd counters;
  ConnectionRegionHeader header = {};  // of the connections
};

/// Whether packets of an interface still run through what is pinned: somebody may write the pinned tables.
bool has_live_port(const Pins &pins) {
  for (const std::string &port : pins.ports()) {
    const std::optional<PortAttachment> pinned = PortAttachment::pinned(pins, port);
    if (pinned && pinned->ifindex() != 0) return true;
  }
  return false;
}

bool has_elements(int map_fd, uint64_t value_size, uint64_t count) {
  bpf_map_info info = {};
  uint32_t size = sizeof(info);
  return bpf_obj_get_info_by_fd(map_fd, &info, &size) == 0 && info.type == BPF_MAP_TYPE_ARRAY &&
         info.value_size == value_size && info.max_entries == count;
}

/// Why the pinned connection table cannot be gone on with; empty if it can.
std::string connections_misfit(const XdpMemoryOptions &options, const Pins &pins, KeptMaps *kept) {
  Result<Mapping> memory = map_memory(kept->connections.get(), "the pinned connection table");
  if (!memory.ok()) return memory.error().message;
  std::string misfit =
      connection_region_misfit({memory.value().data(), memory.value().size()}, options.connections);
  if (!misfit.empty()) return misfit;
  kept->header = *reinterpret_cast<const ConnectionRegionHeader *>(memory.value().data());
  if (!has_elements(kept->connections.get(), sizeof(ConnectionBucket),
                    kept->header.total_size / sizeof(ConnectionBucket)))
    return "it is no array of buckets";
  // Nobody has kept the entries' ages true since.
  return has_live_port(pins) ? "" : "no port's packets run through it";
}

bool counters_fit(const CounterRegionShape &shape, int map_fd) {
  if (!has_elements(map_fd, counter_region_layout(shape).worker_stride, shape.worker_count + 1)) return false;
  Result<Mapping> memory = map_memory(map_fd, "the pinned counters");
  if (!memory.ok()) return false;
  return CounterRegion::over({std::move(memory).value(), UniqueFd(), "the pinned counters"}, shape,
                             CounterContents::kKept)
      .ok();
}

Result<KeptMaps> keep_pinned(const XdpMemoryOptions &options, const CounterRegionShape &shape,
                             const Pins &pins) {
  KeptMaps kept;
  kept.connections = pins.get(kConnectionsPin);
  const std::string misfit = kept.connections.valid() ? connections_misfit(options, pins, &kept)
                                                      : "there is no pinned connection table";
  if (!misfit.empty()) {
    const bool pinned = kept.connections.valid() || !pins.ports().empty();
    if (pinned) spdlog::info("what is pinned in {} is not taken over: {}", pins.directory().string(), misfit);
    kept.connections.reset(-1);
    Result<std::string> released = release(pins, options.connections.path);
    if (!released.ok()) return released.error();
    if (pinned) spdlog::info("{}", released.value());
    return kept;
  }
  kept.counters = pins.get(kCountersPin);
  if (kept.counters.valid() && !counters_fit(shape, kept.counters.get())) {
    spdlog::info("the pinned counters are of another layout: counts start anew");
    kept.counters.reset(-1);
  }
  return kept;
}

Result<std::unique_ptr<ForwardingProgram>> load(const XdpMemoryOptions &options, const KeptMaps &kept,
                                                const ConnectionRegionHeader &header) {
  ForwardingProgramOptions wanted;
  wanted.worker_count = options.connections.worker_count;
  wanted.table_count = header.table_count;
  wanted.ipv4_buckets = header.ipv4_buckets;
  wanted.ipv6_buckets = header.ipv6_buckets;
  wanted.connections_bytes = header.total_size;
  wanted.buffers = options.buffers;
  wanted.port_ifindexes = options.port_ifindexes;
  wanted.connections_fd = kept.connections.get();
  wanted.counters_fd = kept.counters.get();
  return ForwardingProgram::load(wanted);
}

Status open_connections(const XdpMemoryOptions &options, XdpMemory *memory) {
  Result<SharedMemory> map = memory->program->connections_memory();
  if (!map.ok()) return map.error();
  Result<ConnectionRegion> region = memory->file
                                        ? memory->file->copied_into(std::move(map).value())
                                        : ConnectionRegion::over(std::move(map).value(), options.connections);
  if (!region.ok()) return region.error();
  memory->connections = std::make_unique<ConnectionRegion>(std::move(region).value());
  return Done{};
}

Status open_counters(const CounterRegionShape &shape, CounterContents contents, XdpMemory *memory) {
  Result<SharedMemory> map = memory->program->counters_memory();
  if (!map.ok()) return map.error();
  Result<CounterRegion> region = CounterRegion::over(std::move(map).value(), shape, contents);
  if (!region.ok()) return region.error();
  memory->counters = std::make_unique<CounterRegion>(std::move(region).value());
  return Done{};
}

}  // namespace

CounterRegionShape xdp_counter_shape(uint32_t workers) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  CounterRegionShape shape;
  shape.worker_count = workers;
  shape.first_worker_part = FirstWorkerPart::kAfterOneStride;
  shape.started_unix_ns =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  return shape;
}

Result<XdpMemory> open_memory(const XdpMemoryOptions &options, const Pins &pins) {
  const CounterRegionShape shape = xdp_counter_shape(options.connections.worker_count);
  Result<KeptMaps> kept = keep_pinned(options, shape, pins);
  if (!kept.ok()) return kept.error();
  XdpMemory memory;
  if (!kept.value().connections.valid()) {
    Result<ConnectionRegion> file = ConnectionRegion::open(options.connections, read_boot_clock());
    if (!file.ok()) return file.error();
    memory.file.emplace(std::move(file).value());
  }
  Result<std::unique_ptr<ForwardingProgram>> program =
      load(options, kept.value(), memory.file ? memory.file->header() : kept.value().header);
  if (!program.ok()) return program.error();
  memory.program = std::move(program).value();
  Status opened = open_connections(options, &memory);
  if (!opened.ok()) return opened.error();
  const bool kept_counters = kept.value().counters.valid();
  opened = open_counters(shape, kept_counters ? CounterContents::kKept : CounterContents::kNew, &memory);
  if (!opened.ok()) return opened.error();
  if (!kept_counters) {
    for (uint32_t worker = 0; worker < shape.worker_count; worker++)
      recount_active_connections(*memory.connections, *memory.counters, worker);
  }
  return memory;
}

}  // namespace sluice
