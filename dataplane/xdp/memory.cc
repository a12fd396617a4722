#include "dataplane/xdp/memory.h"

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/active_connections.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/map_memory.h"

namespace sluice {
namespace {

/// What a process before this one left.
struct Earlier {
  UniqueFd connections;
  UniqueFd counters;
  enum class Use { kLeft, kInUse } use = Use::kLeft;  // in use: by packets
  // The connection table's memory, shared with whoever brings it over.
  std::shared_ptr<const Mapping> memory;

  std::span<const std::byte> bytes() const {
    return memory ? std::span<const std::byte>(memory->data(), memory->size()) : std::span<const std::byte>();
  }
};

/// Maps to go on with; invalid descriptors: none.
struct KeptMaps {
  int connections = -1;
  int counters = -1;
};

bool has_elements(int map_fd, uint64_t value_size, uint64_t count) {
  bpf_map_info info = {};
  uint32_t size = sizeof(info);
  return bpf_obj_get_info_by_fd(map_fd, &info, &size) == 0 && info.type == BPF_MAP_TYPE_ARRAY &&
         info.value_size == value_size && info.max_entries == count;
}

/// Why the connection table of before cannot be gone on with as it is; empty if it can.
std::string connections_misfit(const XdpMemoryOptions &options, const Earlier &earlier) {
  std::string misfit = connection_region_misfit(earlier.bytes(), options.connections);
  if (!misfit.empty()) return misfit;
  const auto *header = reinterpret_cast<const ConnectionRegionHeader *>(earlier.bytes().data());
  if (!has_elements(earlier.connections.get(), sizeof(ConnectionBucket),
                    header->total_size / sizeof(ConnectionBucket)))
    return "it is no array of buckets";
  return "";
}

bool counters_fit(const CounterRegionShape &shape, int map_fd) {
  if (!has_elements(map_fd, counter_region_layout(shape).worker_stride, shape.worker_count + 1)) return false;
  Result<Mapping> memory = map_memory(map_fd, "the pinned counters");
  if (!memory.ok()) return false;
  return CounterRegion::over({std::move(memory).value(), UniqueFd(), "the pinned counters"}, shape,
                             CounterContents::kKept)
      .ok();
}

Result<Earlier> find_earlier(const Pins &pins) {
  Earlier earlier;
  LiveMaps live = live_maps(earlier_ports(pins));
  if (live.connections.valid()) {
    earlier.use = Earlier::Use::kInUse;
    earlier.connections = std::move(live.connections);
    earlier.counters = std::move(live.counters);
  } else {
    earlier.connections = pins.get(kConnectionsPin);
  }
  if (!earlier.connections.valid()) return earlier;
  Result<Mapping> memory = map_memory(earlier.connections.get(), "the connection table of before");
  if (!memory.ok()) return memory.error();
  earlier.memory = std::make_shared<const Mapping>(std::move(memory).value());
  return earlier;
}

/// The maps that are gone on with: those in use, if they fit.
KeptMaps keep_maps(const XdpMemoryOptions &options, const CounterRegionShape &shape, const Earlier &earlier) {
  // Of what is not in use nobody has kept the entries' ages true.
  if (earlier.use == Earlier::Use::kLeft) return {};
  const std::string misfit = connections_misfit(options, earlier);
  if (!misfit.empty()) {
    spdlog::info("the connection table in use is not gone on with: {}", misfit);
    return {};
  }
  KeptMaps kept = {.connections = earlier.connections.get()};
  if (earlier.counters.valid() && counters_fit(shape, earlier.counters.get()))
    kept.counters = earlier.counters.get();
  else
    spdlog::info("the counters of before are of another layout: counts start anew");
  return kept;
}

/// The connections that new maps begin with. Of the pinned map and the file there are both after a start or a
/// stop that was interrupted.
ConnectionContents contents_for_new_maps(const XdpMemoryOptions &options, const Earlier &earlier,
                                         const std::optional<ConnectionFile> &file) {
  using Keeper = ConnectionContents::Keeper;
  const std::filesystem::path &snapshot = options.connections.snapshot;
  if (earlier.use == Earlier::Use::kInUse)
    return {.bytes = earlier.bytes(), .keeper = Keeper::kRunningWorkers, .snapshot = snapshot};
  if (file && is_left_later(file->bytes(), earlier.bytes()))
    return {.bytes = file->bytes(), .keeper = Keeper::kDataplane, .snapshot = snapshot};
  return {.bytes = earlier.bytes(), .keeper = Keeper::kStoppedWorkers, .snapshot = snapshot};
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
  wanted.connections_fd = kept.connections;
  wanted.counters_fd = kept.counters;
  return ForwardingProgram::load(wanted);
}

Status open_connections(const XdpMemoryOptions &options, const KeptMaps &kept,
                        const ConnectionRegionHeader &layout, XdpMemory *memory) {
  Result<SharedMemory> map = memory->program->connections_memory();
  if (!map.ok()) return map.error();
  Result<ConnectionRegion> region =
      kept.connections >= 0
          ? ConnectionRegion::over(std::move(map).value(), options.connections)
          : ConnectionRegion::empty_in(std::move(map).value(), layout, options.connections.worker_count);
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
  Result<Earlier> earlier = find_earlier(pins);
  if (!earlier.ok()) return earlier.error();
  Result<std::optional<ConnectionFile>> file = ConnectionFile::open_existing(options.connections.path);
  if (!file.ok()) return file.error();
  const KeptMaps kept = keep_maps(options, shape, earlier.value());
  const ConnectionContents contents = contents_for_new_maps(options, earlier.value(), file.value());
  const ConnectionRegionHeader layout =
      kept.connections >= 0
          ? *reinterpret_cast<const ConnectionRegionHeader *>(earlier.value().bytes().data())
          : connection_layout(contents, options.connections, read_boot_clock());
  Result<std::unique_ptr<ForwardingProgram>> program = load(options, kept, layout);
  if (!program.ok()) return program.error();
  XdpMemory memory;
  memory.program = std::move(program).value();
  memory.file = std::move(file).value();
  Status opened = open_connections(options, kept, layout, &memory);
  if (opened.ok())
    opened =
        open_counters(shape, kept.counters >= 0 ? CounterContents::kKept : CounterContents::kNew, &memory);
  if (!opened.ok()) return opened.error();
  const auto recount = [connections = memory.connections.get(), counters = memory.counters.get()] {
    for (uint32_t worker = 0; worker < counters->header().worker_count; worker++)
      recount_active_connections(*connections, *counters, worker);
  };
  if (kept.connections >= 0) {
    if (kept.counters < 0) recount();
    return memory;
  }
  // The contents are the file's, which stays open until they are here, or the map's.
  const auto bring_over = [contents, recount, connections = memory.connections.get(),
                           held = earlier.value().memory] {
    connections->continue_from(contents, read_boot_clock());
    recount();
  };
  if (earlier.value().use == Earlier::Use::kInUse)
    memory.bring_over = bring_over;
  else
    bring_over();
  return memory;
}

}  // namespace sluice
