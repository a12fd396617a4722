#include "tools/bench/bench_world.h"

#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <sys/mman.h>

#include "controlplane/compile/maglev.h"
#include "controlplane/compile/snapshot_writer.h"
#include "controlplane/compile/vip_table.h"
#include "dataplane/core/forward.h"

namespace sluice::bench {

namespace {

constexpr uint32_t kSlots = 65537;

uint32_t buckets_for(uint64_t connections, uint32_t entries_per_bucket) {
  uint64_t buckets = 1024;
  while (buckets * entries_per_bucket * 85 / 100 < connections) buckets *= 2;
  return static_cast<uint32_t>(buckets);
}

Address address_of(AddressFamily family, uint32_t network, uint32_t host) {
  if (family == kFamilyIpv4) return address_from_ipv4(host_to_be32(network + host));
  Address address = {};
  address.word[0] = host_to_be32(0x20010db8);
  address.word[1] = host_to_be32(network);
  address.word[3] = host_to_be32(host);
  return address;
}

Egress egress_of(AddressFamily family, uint32_t backend) {
  Egress egress = {};
  const uint8_t ethernet[] = {2, 0, 0, 1, 0, static_cast<uint8_t>(backend), 2, 0, 0, 0, 0, 1};
  std::memcpy(egress.headers, ethernet, sizeof(ethernet));
  uint8_t *outer = egress.headers + kEthernetHeaderSize;
  const Address source = address_of(family, 0x0a000000, 1);
  const Address destination = address_of(family, 0x0a010000, backend);
  if (family == kFamilyIpv4) {
    egress.headers[12] = 0x08;
    outer[0] = 0x45;
    outer[8] = 64;
    std::memcpy(outer + 12, &source.word[3], 4);
    std::memcpy(outer + 16, &destination.word[3], 4);
    uint32_t sum = 0;
    for (int i = 0; i < kIpv4HeaderSize; i += 2) sum += load_be16(outer + i);
    egress.ipv4_sum = static_cast<uint16_t>(~fold_checksum(sum));
  } else {
    egress.headers[12] = 0x86;
    egress.headers[13] = 0xdd;
    outer[0] = 0x60;
    outer[7] = 64;
    std::memcpy(outer + 8, &source, 16);
    std::memcpy(outer + 24, &destination, 16);
    egress.flags = kEgressOuterIpv6;
  }
  egress.outer_mtu = 1600;
  egress.outer_size = family == kFamilyIpv4 ? kIpv4HeaderSize : kIpv6HeaderSize;
  egress.weight = 100;
  egress.flags |= kEgressKnown | kEgressReady | kEgressTakesNew;
  return egress;
}

}  // namespace

template <typename T>
BigArray<T>::BigArray(uint64_t count) : count_(count) {
  void *memory = mmap(nullptr, count * sizeof(T) + (2u << 20), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  const uintptr_t past_boundary = reinterpret_cast<uintptr_t>(memory) % (2u << 20);
  data_ = reinterpret_cast<T *>(static_cast<char *>(memory) + (2u << 20) - past_boundary);
  madvise(data_, count * sizeof(T), MADV_HUGEPAGE);
}

template <typename T>
BigArray<T>::~BigArray() {
  munmap(data_, count_ * sizeof(T));
}

template <typename T>
void BigArray<T>::clear() {
  std::memset(static_cast<void *>(data_), 0, count_ * sizeof(T));
}

template class BigArray<ConnectionBucket>;

Address vip_address(AddressFamily family, uint32_t index) {
  return address_of(family, 0xc6336400, 10 + index);
}

World::World(const WorldShape &shape)
    : shape_(shape),
      buckets_(buckets_for(shape.connections,
                           shape.family == kFamilyIpv4 ? kIpv4EntriesPerBucket : kIpv6EntriesPerBucket)),
      backend_counters_(shape.backends + 1),
      service_counters_(shape.services) {
  for (uint32_t i = 0; i < 12; i++) key_.word[i] = static_cast<uint32_t>(mix_bits(i + 1));
  add_backends();
  add_services();
  buckets_.clear();
  const auto mask = static_cast<uint32_t>(buckets_.count() - 1);
  tables_.flow_hash_key = &key_;
  tables_.vips = vips_.data();
  tables_.vip_mask = static_cast<uint32_t>(vips_.size() - 1);
  tables_.port_ranges = ranges_.data();
  tables_.services = services_.data();
  tables_.slots = slots_.data();
  tables_.backends = backends_.data();
  tables_.egress = egress_.data();
  tables_.backend_count = static_cast<uint32_t>(backends_.size());
  tables_.service_count = static_cast<uint32_t>(services_.size());
  tables_.own = {{&spare_bucket_, &spare_bucket_}};
  tables_.own.buckets[family_index(shape.family)] = buckets_.data();
  tables_.bucket_masks[family_index(shape.family)] = mask;
  tables_.adoption_budgets = adoption_budgets_;
  tables_.displacement_path = &displacement_path_;
  tables_.worker = &worker_;
  tables_.backend_counters = backend_counters_.data();
  tables_.counted_backends = static_cast<uint32_t>(backend_counters_.size());
  tables_.service_counters = service_counters_.data();
}

void World::add_backends() {
  backends_.resize(shape_.backends + 1);
  egress_.resize(shape_.backends + 1);
  std::vector<std::string> names;
  for (uint32_t id = 1; id <= shape_.backends; id++) names.push_back("backend-" + std::to_string(id));
  std::vector<MaglevMember> members;
  for (uint32_t id = 1; id <= shape_.backends; id++) {
    Backend &backend = backends_[id];
    backend.state = kBackendUp;
    backend.weight = 100;
    backend.forwarding = kForwardingIpip;
    backend.embryonic_timeout_s = backend.closing_timeout_s = 10;
    backend.established_timeout_s = 900;
    backend.udp_timeout_s = 30;
    egress_[id] = egress_of(shape_.family, id);
    members.push_back({names[id - 1], static_cast<uint16_t>(id), 100});
  }
  slots_ = build_maglev(members, kSlots);
}

void World::add_services() {
  std::vector<Vip> vips;
  for (uint32_t i = 0; i < shape_.services; i++) {
    Service service = {};
    service.slot_count = kSlots;
    service.embryonic_timeout_s = service.closing_timeout_s = 10;
    service.established_timeout_s = 900;
    service.udp_timeout_s = 30;
    service.scheduler = static_cast<uint8_t>(shape_.scheduler);
    services_.push_back(service);
    const auto first = static_cast<uint32_t>(ranges_.size());
    ranges_.push_back({80, 80, i});
    vips.push_back({vip_address(shape_.family, i), i + 1, first, first + 1, first + 1});
  }
  vips_ = build_vip_table(vips, key_).value();
}

std::vector<std::byte> World::snapshot() const {
  SnapshotParts parts;
  parts.services = services_;
  parts.port_ranges = ranges_;
  parts.backends = backends_;
  parts.vips = vips_;
  parts.slots = {std::span<const uint16_t>(slots_)};
  SnapshotHeader header = {};
  header.revision = 1;
  header.next_vip_number = shape_.services + 1;
  header.next_backend_identifier = shape_.backends + 1;
  header.flow_hash_key = key_;
  Result<SnapshotBytes> written = write_snapshot(header, parts);
  if (!written.ok()) throw std::runtime_error(written.error().message);
  const std::span<const std::byte> bytes(written.value());
  return {bytes.begin(), bytes.end()};
}

void World::clear_connections() {
  buckets_.clear();
  for (BackendCounters &counters : backend_counters_) counters = {};
}

FlowTraffic::FlowTraffic(const WorldShape &shape)
    : family_(shape.family), services_(shape.services), frame_size_(shape.family == kFamilyIpv4 ? 60 : 78) {
  std::memset(template_, 0, sizeof(template_));
  const uint8_t macs[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
  std::memcpy(template_, macs, sizeof(macs));
  uint8_t *l3 = template_ + kEthernetHeaderSize;
  uint8_t *l4 = nullptr;
  if (family_ == kFamilyIpv4) {
    template_[12] = 0x08;
    const uint8_t header[] = {0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, kProtocolTcp};
    std::memcpy(l3, header, sizeof(header));
    l4 = l3 + kIpv4HeaderSize;
  } else {
    template_[12] = 0x86;
    template_[13] = 0xdd;
    const uint8_t header[] = {0x60, 0, 0, 0, 0, 24, kProtocolTcp, 64};
    std::memcpy(l3, header, sizeof(header));
    l4 = l3 + kIpv6HeaderSize;
  }
  l4[3] = 80;
  l4[12] = 0x50;
}

void FlowTraffic::write(uint8_t *frame, uint64_t flow, uint8_t tcp_flags) const {
  std::memcpy(frame, template_, 80);
  // 32,768 ports of each client: flow n of client n / 32768.
  const auto client = static_cast<uint32_t>(flow >> 15);
  const auto port = host_to_be16(static_cast<uint16_t>(1024 + (flow & 0x7fff)));
  const Address source = address_of(family_, 0x0b000000, client);
  const Address destination = vip_address(family_, static_cast<uint32_t>(flow % services_));
  uint8_t *l3 = frame + kEthernetHeaderSize;
  uint8_t *l4 = nullptr;
  if (family_ == kFamilyIpv4) {
    std::memcpy(l3 + 12, &source.word[3], 4);
    std::memcpy(l3 + 16, &destination.word[3], 4);
    l4 = l3 + kIpv4HeaderSize;
  } else {
    std::memcpy(l3 + 8, &source, 16);
    std::memcpy(l3 + 24, &destination, 16);
    l4 = l3 + kIpv6HeaderSize;
  }
  std::memcpy(l4, &port, 2);
  l4[13] = tcp_flags;
}

}  // namespace sluice::bench
