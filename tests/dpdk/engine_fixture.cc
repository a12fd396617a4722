#include "tests/dpdk/engine_fixture.h"

#include <cstdlib>
#include <cstring>

#include <rte_eth_ring.h>

#include "dataplane/server/egress_headers.h"

namespace sluice {

Regions::Regions(uint32_t workers) : workers_(workers) {
  char pattern[] = "/dev/shm/sluice-test-XXXXXX";
  directory_ = mkdtemp(pattern);
  reopen();
}

Regions::~Regions() { std::filesystem::remove_all(directory_); }

void Regions::reopen() {
  counters_.reset();
  connections_.reset();
  CounterRegionShape shape;
  shape.worker_count = workers_;
  shape.backend_capacity = 1024;
  shape.service_capacity = 1024;
  Result<CounterRegion> counters = CounterRegion::create(shape);
  EXPECT_TRUE(counters.ok());
  counters_ = std::make_unique<CounterRegion>(std::move(counters).value());
  Result<ConnectionRegion> connections = ConnectionRegion::open({.path = directory_ / "connections",
                                                                 .worker_count = workers_,
                                                                 .ipv4_connections = 4096,
                                                                 .ipv6_connections = 4096},
                                                                read_boot_clock());
  EXPECT_TRUE(connections.ok());
  connections_ = std::make_unique<ConnectionRegion>(std::move(connections).value());
}

RingDevice::RingDevice(const std::string &name, Sizes sizes) {
  constexpr uint32_t kBuffers = 16384;
  pool_ = rte_pktmbuf_pool_create((name + "_pool").c_str(), kBuffers, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                  SOCKET_ID_ANY);
  receive_ = rte_ring_create((name + "_rx").c_str(), sizes.receive, SOCKET_ID_ANY, 0);
  transmit_ = rte_ring_create((name + "_tx").c_str(), sizes.transmit, SOCKET_ID_ANY, 0);
  if (!pool_ || !receive_ || !transmit_ ||
      rte_eth_from_rings(name.c_str(), &receive_, 1, &transmit_, 1, 0) < 0) {
    std::abort();
  }
}

RingDevice::~RingDevice() {
  rte_ring_free(receive_);
  rte_ring_free(transmit_);
  rte_mempool_free(pool_);
}

bool RingDevice::send(const FrameBytes &frame) {
  rte_mbuf *mbuf = rte_pktmbuf_alloc(pool_);
  if (!mbuf) return false;
  char *data = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size()));
  memcpy(data, frame.data(), frame.size());
  if (rte_ring_enqueue(receive_, mbuf) == 0) return true;
  rte_pktmbuf_free(mbuf);
  return false;
}

std::vector<FrameBytes> RingDevice::take_transmitted() {
  std::vector<FrameBytes> frames;
  void *element = nullptr;
  while (rte_ring_dequeue(transmit_, &element) == 0) {
    auto *mbuf = static_cast<rte_mbuf *>(element);
    const uint8_t *data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
    frames.emplace_back(data, data + mbuf->data_len);
    rte_pktmbuf_free(mbuf);
  }
  return frames;
}

std::vector<Egress> ready_egress(const MappedSnapshot &snapshot, uint16_t port) {
  std::vector<Egress> egress;
  for (const Backend &backend : snapshot.backends()) {
    bool ipv4 = address_is_ipv4(&backend.address);
    EgressPath path = {.source_link = {2, 0, 0, 0, 0, 1},
                       .next_hop_link = {2, 0, 0, 0, 0, 9},
                       .source = parse_address(ipv4 ? "10.9.0.1" : "fd09::1"),
                       .port = port,
                       .mtu = 1600};
    egress.push_back(backend.state == kBackendUnused ? Egress() : make_egress(backend, path));
  }
  return egress;
}

std::shared_ptr<const ForwardingTables> make_tables(const SnapshotBuilder &builder, uint16_t port) {
  AlignedBytes bytes = builder.build();
  auto snapshot = MappedSnapshot::from_bytes({bytes.data(), bytes.size()});
  EXPECT_TRUE(snapshot.ok()) << (snapshot.ok() ? "" : snapshot.error().message);
  auto tables = std::make_shared<ForwardingTables>();
  tables->snapshot = snapshot.value();
  tables->egress = ready_egress(*tables->snapshot, port);
  return tables;
}

void install(Engine *engine, std::shared_ptr<const ForwardingTables> tables) {
  const Status installed = engine->install(std::move(tables));
  EXPECT_TRUE(installed.ok()) << (installed.ok() ? "" : installed.error().message);
}

uint64_t verdict_count(const CounterRegion &counters, Verdict verdict) {
  uint64_t sum = 0;
  for (uint32_t worker = 0; worker < counters.header().worker_count; worker++) {
    sum += __atomic_load_n(&counters.worker(worker).verdict_packets[verdict], __ATOMIC_RELAXED);
  }
  return sum;
}

uint64_t all_verdicts(const CounterRegion &counters) {
  uint64_t sum = 0;
  for (int verdict = 0; verdict < kVerdictCount; verdict++) {
    sum += verdict_count(counters, static_cast<Verdict>(verdict));
  }
  return sum;
}

uint64_t received_packets(const CounterRegion &counters) {
  uint64_t sum = 0;
  for (uint32_t worker = 0; worker < counters.header().worker_count; worker++) {
    sum += __atomic_load_n(&counters.worker(worker).received_packets, __ATOMIC_RELAXED);
  }
  return sum;
}

}  // namespace sluice
