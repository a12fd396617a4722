#include "dataplane/dpdk/engine.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/active_connections.h"
#include "dataplane/server/port_options.h"

namespace sluice {
namespace {

constexpr uint32_t kInboxFrames = 1024;
constexpr uint32_t kDataRoom = 2048;   // bytes, without headroom: RTE_MBUF_DEFAULT_DATAROOM
constexpr uint32_t kVlanTagsSize = 8;  // two tags

uint32_t data_room(const std::vector<uint16_t> &mtus) {
  uint32_t largest = mtus.empty() ? 0 : *std::max_element(mtus.begin(), mtus.end());
  uint32_t frame = largest + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + kVlanTagsSize;
  return RTE_PKTMBUF_HEADROOM + std::max(kDataRoom, RTE_ALIGN_CEIL(frame, 64u));
}

/// Frames that workers and caches hold beside the ports' rings.
uint32_t worker_buffers(uint16_t workers) {
  constexpr uint32_t kInHand = 8 * kBurstSize;
  return (workers + 1u) * (2 * kPoolCacheFrames + kInboxFrames + kInHand);
}

int run_worker(void *worker) {
  static_cast<Worker *>(worker)->run();
  return 0;
}

unsigned lcore_of(uint16_t worker) { return worker + 1u; }

}  // namespace

size_t estimate_memory_mb(const std::vector<PortOptions> &ports, uint16_t workers) {
  constexpr size_t kRings = 4 * 2048;  // descriptors of one queue pair, AF_XDP's rings included
  constexpr size_t kOverhead = 256;    // mbuf and mempool headers, bytes
  constexpr size_t kRestMb = 64;       // devices, rings, the EAL's own
  size_t buffers = worker_buffers(workers);
  std::vector<uint16_t> mtus;
  for (const PortOptions &port : ports) {
    size_t queues = std::max(known_queues(port), workers * port.devices.size());
    buffers += queues * std::max<size_t>(kRings, size_t{4} * port.descriptors);
    mtus.push_back(port.mtu);
  }
  return kRestMb + buffers * (data_room(mtus) + kOverhead) / (1024 * 1024);
}

uint16_t default_worker_count(const std::vector<PortOptions> &ports, size_t cores) {
  size_t most = 1;
  for (const PortOptions &port : ports) most = std::max(most, known_queues(port));
  return static_cast<uint16_t>(std::min({most, std::max<size_t>(1, cores), size_t{kMaxConnectionTables}}));
}

void DpdkEngine::Deleter::operator()(rte_rcu_qsbr *readers) const { rte_free(readers); }

Result<std::unique_ptr<DpdkEngine>> DpdkEngine::create(const DpdkEngineOptions &options,
                                                       const CounterRegion *counters,
                                                       const ConnectionRegion *connections) {
  std::unique_ptr<DpdkEngine> engine(new DpdkEngine(options, counters, connections));
  for (auto step : {&DpdkEngine::create_readers, &DpdkEngine::open_ports, &DpdkEngine::create_pool,
                    &DpdkEngine::create_inboxes, &DpdkEngine::open_kernel_interfaces}) {
    Status done = (engine.get()->*step)();
    if (!done.ok()) return done.error();
  }
  for (const std::unique_ptr<Port> &port : engine->ports_) {
    Status started = port->start(engine->pool_.get());
    if (!started.ok()) return started.error();
  }
  engine->create_workers();
  engine->write_preflight();
  return engine;
}

DpdkEngine::~DpdkEngine() {
  stop();
  moves_.clear();  // what was not kept goes back
  for (const std::unique_ptr<KernelInterface> &interface : kernel_interfaces_) {
    if (!interface) continue;
    const bool of_no_use = started_ == Started::kNo && interface->origin() == KernelInterface::Origin::kMade;
    if (options_.kernel_interfaces == KernelInterfacesAtStop::kKeep && !of_no_use) continue;
    Status removed = interface->remove_on_close();
    if (!removed.ok()) spdlog::warn("{}", removed.error().message);
  }
}

Status DpdkEngine::create_readers() {
  size_t size = rte_rcu_qsbr_get_memsize(options_.workers);
  auto *readers = static_cast<rte_rcu_qsbr *>(rte_zmalloc("sluice readers", size, RTE_CACHE_LINE_SIZE));
  readers_.reset(readers);
  if (!readers || rte_rcu_qsbr_init(readers, options_.workers) != 0) return Error{"out of DPDK memory"};
  return Done{};
}

Status DpdkEngine::open_ports() {
  PortEnvironment environment = {.worker_count = options_.workers,
                                 .sleeps_when_idle = options_.idle == IdlePolicy::kSleep};
  for (const PortOptions &port_options : options_.ports) {
    Result<std::unique_ptr<Port>> port = Port::probe(port_options, environment);
    if (!port.ok()) return port.error();
    ports_.push_back(std::move(port).value());
  }
  return Done{};
}

Status DpdkEngine::create_pool() {
  uint32_t buffers = worker_buffers(options_.workers);
  std::vector<uint16_t> mtus;
  int numa_node = SOCKET_ID_ANY;
  for (const std::unique_ptr<Port> &port : ports_) {
    buffers += port->buffers_needed();
    mtus.push_back(port->report().mtu);
    if (numa_node == SOCKET_ID_ANY) numa_node = port->report().numa_node;
  }
  uint32_t room = data_room(mtus);
  bool af_xdp = std::any_of(ports_.begin(), ports_.end(), [](const auto &port) { return port->is_af_xdp(); });
  bool packed = af_xdp || rte_eal_has_hugepages() == 0;
  pool_ = create_frame_pool({.buffers = buffers,
                             .data_room = static_cast<uint16_t>(room),
                             .numa_node = numa_node,
                             .layout = packed ? PoolLayout::kPacked : PoolLayout::kDefault});
  if (!pool_) {
    return Error{
        fmt::format("no memory for {} frame buffers of {} bytes: {}; give fewer queues or descriptors, or "
                    "more huge pages",
                    buffers, room, rte_strerror(rte_errno))};
  }
  preflight_.buffers =
      fmt::format("{} of {} bytes in one pool ({} MB): all rings full, and what workers hold", buffers, room,
                  static_cast<uint64_t>(buffers) * room / (1024 * 1024));
  return Done{};
}

Status DpdkEngine::create_inboxes() {
  bool steered =
      std::any_of(ports_.begin(), ports_.end(), [](const auto &port) { return port->report().steered; });
  if (!steered) return Done{};
  for (uint16_t worker = 0; worker < options_.workers; worker++) {
    std::string name = fmt::format("sluice_inbox_{}", worker);
    rte_ring *ring = rte_ring_create(name.c_str(), kInboxFrames, SOCKET_ID_ANY, RING_F_SC_DEQ);
    if (!ring) return Error{fmt::format("no memory for the steering ring of worker {}", worker)};
    inboxes_.emplace_back(ring);
  }
  return Done{};
}

Status DpdkEngine::open_kernel_interfaces() {
  for (const std::unique_ptr<Port> &port : ports_) {
    const PortOptions &wanted = port->options();
    kernel_interfaces_.emplace_back();
    if (wanted.kernel_interface.empty()) continue;
    Result<std::unique_ptr<KernelInterface>> interface =
        KernelInterface::open({.name = wanted.kernel_interface,
                               .mac = port->mac(),
                               .mtu = port->report().mtu,
                               .queues = options_.workers});
    if (!interface.ok()) return Error{fmt::format("port {}: {}", wanted.name, interface.error().message)};
    kernel_interfaces_.back() = std::move(interface).value();
    // An XDP engine before this one had the addresses on the interface itself.
    const Result<std::string> below = xdp_interface(wanted);
    Result<SettingsMove> move =
        SettingsMove::make(below.ok() ? below.value() : "", wanted.kernel_interface, wanted.addresses);
    if (!move.ok()) return Error{fmt::format("port {}: {}", wanted.name, move.error().message)};
    if (!move.value().text().empty())
      spdlog::info("port {}: moved {} from {} to {}", wanted.name, move.value().text(), below.value(),
                   wanted.kernel_interface);
    moves_.push_back(std::move(move).value());
  }
  return Done{};
}

Tables DpdkEngine::worker_tables(uint16_t index) {
  Tables tables;
  const ConnectionRegionHeader &header = connections_->header();
  tables.bucket_masks[family_index(kFamilyIpv4)] = header.ipv4_buckets - 1;
  tables.bucket_masks[family_index(kFamilyIpv6)] = header.ipv6_buckets - 1;
  for (uint32_t table = 0; table < header.table_count; table++) {
    ConnectionTable buckets = {
        {connections_->ipv4_buckets(table).data(), connections_->ipv6_buckets(table).data()}};
    if (table == index) {
      tables.own = buckets;
    } else {
      peers_[index].push_back(buckets);
    }
  }
  tables.peers = peers_[index].data();
  tables.peer_count = static_cast<uint32_t>(peers_[index].size());
  tables.worker = &counters_->worker(index);
  tables.backend_counters = counters_->backends(index).data();
  tables.counted_backends = counters_->header().backend_capacity;
  tables.service_counters = counters_->services(index).data();
  if (options_.workers > 1) tables.others_active = others_active_[index].data();
  recount_active_connections(*connections_, *counters_, index);
  return tables;
}

WorkerSetup DpdkEngine::worker_setup(uint16_t index) {
  WorkerSetup setup;
  setup.index = index;
  setup.idle = options_.idle;
  setup.pool = pool_.get();
  setup.tables = worker_tables(index);
  setup.generation = &current_generation_;
  setup.readers = readers_.get();
  setup.stop = &stop_workers_;
  for (const auto &inbox : inboxes_) setup.inboxes.push_back(inbox.get());
  for (size_t port = 0; port < ports_.size(); port++) {
    const std::unique_ptr<KernelInterface> &kernel = kernel_interfaces_[port];
    setup.ports.push_back({.receive = ports_[port]->receive_queues(index),
                           .transmit = ports_[port]->transmit_queue(index),
                           .kernel_fd = kernel ? kernel->queue_fd(index) : -1,
                           .steered = ports_[port]->report().steered});
  }
  return setup;
}

void DpdkEngine::create_workers() {
  peers_.resize(options_.workers);
  uint32_t backends = counters_->header().backend_capacity;
  active_sum_.assign(backends, 0);
  if (options_.workers > 1) others_active_.assign(options_.workers, std::vector<uint32_t>(backends));
  for (uint16_t index = 0; index < options_.workers; index++) {
    workers_.push_back(std::make_unique<Worker>(worker_setup(index)));
  }
  merge_active_connections();
}

void DpdkEngine::write_preflight() {
  preflight_.memory = options_.memory_explanation;
  preflight_.cores = options_.core_explanation;
  preflight_.idle = options_.idle == IdlePolicy::kSleep
                        ? "sleep 10 to 200 us once nothing has come for 50 us (--idle sleep)"
                        : "poll, each its whole core (--idle sleep is for shared hosts)";
  for (uint16_t worker = 0; worker < options_.workers; worker++) {
    unsigned lcore = lcore_of(worker);
    int nodes = static_cast<int>(rte_socket_count());
    preflight_.workers.push_back(
        {.core = rte_lcore_to_cpu_id(static_cast<int>(lcore)),
         .numa_node = nodes > 1 ? static_cast<int>(rte_lcore_to_socket_id(lcore)) : -1});
  }
  for (const std::unique_ptr<Port> &port : ports_) preflight_.ports.push_back(port->report());
  warn_of_remote_memory(&preflight_);
}

Status DpdkEngine::start() {
  for (uint16_t worker = 0; worker < options_.workers; worker++) {
    unsigned lcore = lcore_of(worker);
    int error = rte_eal_remote_launch(run_worker, workers_[worker].get(), lcore);
    if (error != 0) {
      return Error{fmt::format("worker {}: lcore {} does not start: {}", worker, lcore, strerror(-error))};
    }
    state_ = State::kRunning;
  }
  for (SettingsMove &move : moves_) move.keep();
  started_ = Started::kYes;
  return Done{};
}

void DpdkEngine::stop() {
  if (state_ == State::kStopped) return;
  stop_workers_.store(true, std::memory_order_relaxed);
  for (uint16_t worker = 0; worker < options_.workers; worker++) rte_eal_wait_lcore(lcore_of(worker));
  state_ = State::kStopped;
  for (const auto &inbox : inboxes_) {
    void *frame = nullptr;
    while (rte_ring_dequeue(inbox.get(), &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf *>(frame));
  }
}

std::vector<EnginePort> DpdkEngine::ports() const {
  std::vector<EnginePort> ports;
  for (size_t port = 0; port < ports_.size(); port++) {
    ports.push_back({.index = static_cast<uint16_t>(port),
                     .kernel_ifindex = kernel_interfaces_[port] ? kernel_interfaces_[port]->ifindex() : 0,
                     .mtu = ports_[port]->report().mtu});
  }
  return ports;
}

Status DpdkEngine::install(std::shared_ptr<const ForwardingTables> tables) {
  auto generation = std::make_unique<const Generation>(
      make_generation(std::move(tables), generation_ ? generation_->serial + 1 : 1));
  current_generation_.store(generation.get(), std::memory_order_release);
  // Workers that poll pass by within a burst; those that sleep are offline and look before they work.
  rte_rcu_qsbr_synchronize(readers_.get(), RTE_QSBR_THRID_INVALID);
  generation_ = std::move(generation);
  return Done{};
}

void DpdkEngine::merge_active_connections() {
  if (options_.workers == 1) return;  // a worker knows its own
  size_t backends = generation_ ? generation_->view.backend_count : active_sum_.size();
  std::fill(active_sum_.begin(), active_sum_.end(), 0);
  for (uint16_t worker = 0; worker < options_.workers; worker++) {
    std::span<BackendCounters> counters = counters_->backends(worker);
    for (size_t backend = 0; backend < backends; backend++) {
      active_sum_[backend] += __atomic_load_n(&counters[backend].active_connections, __ATOMIC_RELAXED);
    }
  }
  for (uint16_t worker = 0; worker < options_.workers; worker++) {
    std::span<BackendCounters> counters = counters_->backends(worker);
    for (size_t backend = 0; backend < backends; backend++) {
      uint32_t own = __atomic_load_n(&counters[backend].active_connections, __ATOMIC_RELAXED);
      uint32_t others = active_sum_[backend] - std::min(own, active_sum_[backend]);
      __atomic_store_n(&others_active_[worker][backend], others, __ATOMIC_RELAXED);
    }
  }
}

nlohmann::json DpdkEngine::worker_status(uint16_t index) const {
  const WorkerCounters &counters = counters_->worker(index);
  nlohmann::json queues = nlohmann::json::array();
  for (const WorkerPort &port : workers_[index]->setup().ports) {
    for (const DeviceQueue &queue : port.receive) {
      auto number = static_cast<size_t>(&port - workers_[index]->setup().ports.data());
      queues.push_back(
          {{"port", ports_[number]->options().name}, {"device", queue.device}, {"queue", queue.queue}});
    }
  }
  uint64_t total = std::max<uint64_t>(1, counters.total_cycles);
  return {{"worker", index},
          {"core", preflight_.workers[index].core},
          {"busy_ratio", static_cast<double>(counters.busy_cycles) / static_cast<double>(total)},
          {"received_packets", counters.received_packets},
          {"transmitted_packets", counters.transmitted_packets},
          {"kernel_packets", counters.kernel_packets},
          {"steered_packets", counters.steered_packets},
          {"receive_queues", queues}};
}

nlohmann::json DpdkEngine::status() const {
  nlohmann::json workers = nlohmann::json::array();
  for (uint16_t worker = 0; worker < options_.workers; worker++) workers.push_back(worker_status(worker));
  nlohmann::json report = preflight_json(preflight_);
  nlohmann::json ports = report["ports"];
  report.erase("ports");
  for (size_t port = 0; port < ports_.size(); port++) {
    if (kernel_interfaces_[port]) ports[port]["kernel_interface"] = kernel_interfaces_[port]->name();
    ports[port]["index"] = port;
  }
  return {{"engine", name()},
          {"ports", ports},
          {"workers", workers},
          {"host", report},
          {"free_buffers", rte_mempool_avail_count(pool_.get())}};
}

}  // namespace sluice
