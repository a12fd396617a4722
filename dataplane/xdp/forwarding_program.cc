#include "dataplane/xdp/forwarding_program.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <string_view>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>

#include "dataplane/server/snapshot_store.h"
#include "dataplane/xdp/libbpf_log.h"
#include "dataplane/xdp/skeleton.h"

namespace sluice {
namespace {

constexpr uint32_t kMinSlotLines = 65536 * 4 / kXdpSlotsPerLine;  // four tables of 65,537 slots, or nearly

std::string error_text(int error) { return std::strerror(error < 0 ? -error : error); }  // NOLINT

Result<Mapping> map_whole(const bpf_map *map, size_t size) {
  return map_shared(bpf_map__fd(map), size, bpf_map__name(map));
}

size_t array_bytes(const bpf_map *map) {
  constexpr size_t kPage = 4096;
  const size_t size = size_t{bpf_map__value_size(map)} * bpf_map__max_entries(map);
  return (size + kPage - 1) / kPage * kPage;
}

Result<SharedMemory> memory_of(const bpf_map *map) {
  SharedMemory memory;
  memory.name = bpf_map__name(map);
  // Writable, for the kernel maps no other descriptor of a map.
  memory.reader.reset(::fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 0));
  if (!memory.reader.valid())
    return Error{fmt::format("map {}: cannot duplicate its descriptor: {}", memory.name, error_text(errno))};
  Result<Mapping> mapping = map_whole(map, array_bytes(map));
  if (!mapping.ok()) return mapping.error();
  memory.mapping = std::move(mapping).value();
  return memory;
}

/// Copies the records of a section, from `first` on in an array that the program reads.
template <typename Record>
void copy_records(std::span<const Record> records, Record *first) {
  std::copy(records.begin(), records.end(), first);
}

/// Why the snapshot does not fit any program; empty if it does.
std::string beyond_capacity(const MappedSnapshot &snapshot) {
  const std::array<std::tuple<const char *, size_t, size_t>, 4> tables = {{
      {"vips", snapshot.vips().size(), kXdpVips},
      {"port_ranges", snapshot.port_ranges().size(), kXdpPortRanges},
      {"services", snapshot.services().size(), kXdpServices},
      {"backends", snapshot.backends().size(), kXdpBackends},
  }};
  for (const auto &[name, count, capacity] : tables)
    if (count > capacity)
      return fmt::format("{}: {} records, the XDP engine has room for {}", name, count, capacity);
  return "";
}

uint32_t lines_of(uint64_t slots) {
  const uint64_t lines = (slots + kXdpSlotsPerLine - 1) / kXdpSlotsPerLine;
  return static_cast<uint32_t>(std::bit_ceil(std::max<uint64_t>(lines, kMinSlotLines)));
}

}  // namespace

std::string why_not_loaded(int error, const std::string &refusal, const ForwardingProgramOptions &options) {
  // E2BIG is a map's, or the verifier's about a program with too many instructions.
  if (error == -ENOMEM || (error == -E2BIG && refusal.empty()))
    return fmt::format(
        "the kernel has no memory for its maps: {}; its connection tables take {} MiB: ask for fewer with "
        "--ipv4-connections and --ipv6-connections, which are per CPU ({} of them)",
        error_text(error), options.connections_bytes >> 20, options.table_count);
  return fmt::format("the kernel refuses it: {}{}", error_text(error),
                     error == -EPERM ? "; it needs root (CAP_BPF and CAP_NET_ADMIN)"
                     : refusal.empty()
                         ? "; --log-level debug shows what libbpf says"
                         : fmt::format("; its verifier says of {} (--log-level debug shows more)", refusal));
}

void ForwardingProgram::Deleter::operator()(sluice_program *program) const {
  sluice_program::destroy(program);
}

ForwardingProgram::~ForwardingProgram() = default;

Result<std::unique_ptr<ForwardingProgram>> ForwardingProgram::load(const ForwardingProgramOptions &options) {
  std::unique_ptr<ForwardingProgram> program(new ForwardingProgram(options));
  for (auto step : {&ForwardingProgram::open, &ForwardingProgram::size_maps, &ForwardingProgram::load_and_map,
                    &ForwardingProgram::fill_ports}) {
    Status done = (program.get()->*step)();
    if (!done.ok()) return Error{"XDP program: " + done.error().message};
  }
  return program;
}

Status ForwardingProgram::open() {
  if (options_.worker_count == 0 || options_.worker_count > kXdpMaxWorkers)
    return Error{
        fmt::format("worker_count: {} is not between 1 and {}", options_.worker_count, +kXdpMaxWorkers)};
  if (options_.port_ifindexes.size() > kXdpMaxPorts)
    return Error{
        fmt::format("{} ports, at most {} are possible", options_.port_ifindexes.size(), +kXdpMaxPorts)};
  listen_to_libbpf();
  program_.reset(sluice_program::open());
  if (!program_) return Error{fmt::format("cannot open: {}", error_text(errno))};

  slot_lines_ = lines_of(options_.slots);
  XdpSettings &settings = program_->rodata->settings;
  settings.worker_count = options_.worker_count;
  settings.table_count = options_.table_count;
  settings.ipv4_buckets = options_.ipv4_buckets;
  settings.ipv6_buckets = options_.ipv6_buckets;
  settings.table_buckets = options_.ipv4_buckets + options_.ipv6_buckets;
  settings.slot_lines = slot_lines_;
  settings.clock = options_.clock;
  settings.several_buffers = options_.buffers == FrameBuffers::kSeveral ? 1 : 0;
  std::copy(options_.port_ifindexes.begin(), options_.port_ifindexes.end(), settings.port_ifindex);
  // All of them: the kernel lets none call another that is not like itself, nor an entry under a dispatcher
  // (dispatcher.h), which has no attach type.
  bpf_program *program = nullptr;
  bpf_object__for_each_program(program, program_->obj) {
    bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(0));
    if (options_.buffers == FrameBuffers::kSeveral)
      bpf_program__set_flags(program, bpf_program__flags(program) | BPF_F_XDP_HAS_FRAGS);
  }
  return Done{};
}

Status ForwardingProgram::size_maps() {
  const uint64_t buckets = options_.connections_bytes / sizeof(ConnectionBucket);
  const uint64_t needed =
      kXdpConnectionHeader +
      uint64_t{options_.table_count} * (uint64_t{options_.ipv4_buckets} + options_.ipv6_buckets);
  if (buckets < needed || buckets > UINT32_MAX)
    return Error{
        fmt::format("connections: {} bytes hold {} buckets, {} are needed, and at most {} possible; ask "
                    "for fewer with --ipv4-connections and --ipv6-connections, which are per CPU",
                    options_.connections_bytes, buckets, needed, UINT32_MAX)};
  const struct {
    bpf_map *map;
    uint32_t entries;
    int fd;
  } sizes[] = {
      {program_->maps.slots, kXdpGenerations * slot_lines_, -1},
      {program_->maps.connections, static_cast<uint32_t>(buckets), options_.connections_fd},
      {program_->maps.counters, options_.worker_count + 1, options_.counters_fd},
      {program_->maps.others_active, options_.worker_count, -1},
  };
  for (const auto &[map, entries, fd] : sizes) {
    const uint32_t value_size = bpf_map__value_size(map);
    const std::string name = bpf_map__name(map);  // of a map gone on with, it becomes that one's
    const int error = fd < 0 ? bpf_map__set_max_entries(map, entries) : bpf_map__reuse_fd(map, fd);
    if (error != 0) return Error{fmt::format("map {}: {}", name, error_text(error))};
    if (bpf_map__max_entries(map) != entries || bpf_map__value_size(map) != value_size)
      return Error{fmt::format("map {}: the one to go on with has {} elements of {} bytes, not {} of {}",
                               name, bpf_map__max_entries(map), bpf_map__value_size(map), entries,
                               value_size)};
  }
  return Done{};
}

Status ForwardingProgram::load_and_map() {
  (void)take_refusal();  // of a program before this one
  const int error = sluice_program::load(program_.get());
  if (error != 0) return Error{why_not_loaded(error, take_refusal(), options_)};
  Result<Mapping> slots = map_whole(program_->maps.slots, array_bytes(program_->maps.slots));
  if (!slots.ok()) return slots.error();
  slots_ = std::move(slots).value();
  Result<Mapping> active = map_whole(program_->maps.others_active, array_bytes(program_->maps.others_active));
  if (!active.ok()) return active.error();
  others_active_ = std::move(active).value();
  barrier_element_.reset(
      bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_barrier", sizeof(uint32_t), sizeof(uint32_t), 1, nullptr));
  if (!barrier_element_.valid()) return Error{"generation barrier: " + error_text(errno)};
  return Done{};
}

Status ForwardingProgram::fill_ports() {
  for (uint32_t port = 0; port < options_.port_ifindexes.size(); port++) {
    const uint32_t ifindex = options_.port_ifindexes[port];
    if (ifindex == 0) continue;
    const int error = bpf_map_update_elem(bpf_map__fd(program_->maps.ports), &port, &ifindex, BPF_ANY);
    if (error != 0)
      return Error{
          fmt::format("port {}: interface {} cannot be redirected to: {}", port, ifindex, error_text(error))};
  }
  return Done{};
}

Result<bool> ForwardingProgram::has_room_for(const ForwardingTables &tables) const {
  const std::string beyond = beyond_capacity(*tables.snapshot);
  if (!beyond.empty()) return Error{beyond};
  return tables.snapshot->slots().size() <= uint64_t{slot_lines_} * kXdpSlotsPerLine;
}

Status ForwardingProgram::wait_for_readers() {
  const uint32_t element = 0;
  const int inner = barrier_element_.get();
  const int error =
      bpf_map_update_elem(bpf_map__fd(program_->maps.generation_barrier), &element, &inner, BPF_ANY);
  if (error != 0) return Error{"generation barrier: " + error_text(error)};
  return Done{};
}

void ForwardingProgram::write_generation(uint32_t generation, const ForwardingTables &tables) {
  const MappedSnapshot &snapshot = *tables.snapshot;
  XdpGeneration &to = program_->bss->generations[generation];
  copy_records(snapshot.vips(), to.vips);
  copy_records(snapshot.port_ranges(), to.port_ranges);
  copy_records(snapshot.services(), to.services);
  copy_records(snapshot.backends(), to.backends);
  copy_records(snapshot.check_sources(), to.check_sources);
  copy_records(snapshot.pins(), to.pins);
  to.check_source_count = static_cast<uint32_t>(snapshot.check_sources().size());
  copy_records(std::span<const Egress>(tables.egress), to.egress);
  // Entries may name backends that this snapshot has no more.
  Used &used = used_[generation];
  const size_t count = snapshot.backends().size();
  for (size_t i = count; i < used.backends; i++) {
    to.backends[i] = {};
    to.egress[i] = {};
  }
  used.backends = count;
  const std::span<const uint16_t> slots = snapshot.slots();
  std::memcpy(slots_.data() + size_t{generation} * slot_lines_ * kXdpSlotsPerLine * sizeof(uint16_t),
              slots.data(), slots.size_bytes());
  to.flow_hash_key = snapshot.header().flow_hash_key;
  to.vip_mask = snapshot.header().vip_mask;
  to.installed = 1;
}

Status ForwardingProgram::install(const ForwardingTables &tables) {
  const Result<bool> room = has_room_for(tables);
  if (!room.ok()) return room.error();
  if (!room.value()) return Error{"slots: no room in this program"};
  XdpState &state = program_->bss->state;
  const uint32_t next = state.current == 0 ? 1 : 0;
  // Packets of before the last flip may still read what is now to be overwritten.
  Status waited = wait_for_readers();
  if (!waited.ok()) return waited;
  write_generation(next, tables);
  __atomic_store_n(&state.current, uint64_t{next}, __ATOMIC_RELEASE);
  return Done{};
}

Status ForwardingProgram::sweep(uint32_t runs) const {
  std::array<uint8_t, 64> frame = {};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(),
              .repeat = static_cast<int>(runs), .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 1);
  const int error = bpf_prog_test_run_opts(sweep_program_fd(), &options);
  if (error == -EINTR) return Done{};  // a signal came between: the next round goes on
  if (error != 0) return Error{"sweep: " + error_text(error)};
  return Done{};
}

int ForwardingProgram::program_fd() const { return bpf_program__fd(program_->progs.sluice_xdp); }
int ForwardingProgram::miss_program_fd() const { return bpf_program__fd(program_->progs.sluice_xdp_miss); }
int ForwardingProgram::sweep_program_fd() const { return bpf_program__fd(program_->progs.sluice_xdp_sweep); }
int ForwardingProgram::connections_fd() const { return bpf_map__fd(program_->maps.connections); }
int ForwardingProgram::counters_fd() const { return bpf_map__fd(program_->maps.counters); }
int ForwardingProgram::tail_calls_fd() const { return bpf_map__fd(program_->maps.programs); }

uint32_t ForwardingProgram::program_id() const {
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  return bpf_obj_get_info_by_fd(program_fd(), &info, &size) == 0 ? info.id : 0;
}

Result<SharedMemory> ForwardingProgram::connections_memory() const {
  return memory_of(program_->maps.connections);
}
Result<SharedMemory> ForwardingProgram::counters_memory() const { return memory_of(program_->maps.counters); }

std::span<uint32_t> ForwardingProgram::others_active(uint32_t worker) const {
  return {reinterpret_cast<uint32_t *>(others_active_.data()) + size_t{worker} * kMaxBackends, kMaxBackends};
}

XdpWorker &ForwardingProgram::worker(uint32_t worker) const { return program_->bss->workers[worker]; }

uint64_t ForwardingProgram::table_bytes() const {
  return array_bytes(program_->maps.bss) + slots_.size() + others_active_.size();
}

}  // namespace sluice
