#include "dataplane/server/snapshot_check.h"

#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// Typed access to a snapshot's records, to spoil them.
class Records {
 public:
  explicit Records(AlignedBytes *bytes) : bytes_(bytes) {}
  SnapshotHeader &header() { return *reinterpret_cast<SnapshotHeader *>(bytes_->data()); }
  Service &service(size_t i) { return record<Service>(header().services, i); }
  Backend &backend(size_t i) { return record<Backend>(header().backends, i); }
  PortRange &range(size_t i) { return record<PortRange>(header().port_ranges, i); }
  CheckSource &check_source(size_t i) { return record<CheckSource>(header().check_sources, i); }
  uint16_t &pin(size_t i) { return record<uint16_t>(header().pins, i); }
  uint16_t &slot(size_t i) { return record<uint16_t>(header().slots, i); }
  Vip &vip_entry(size_t i) { return record<Vip>(header().vips, i); }
  /// The table entry of the VIP with this number.
  Vip &vip(uint32_t number) {
    for (size_t i = 0; i < header().vips.count; i++)
      if (vip_entry(i).number == number) return vip_entry(i);
    std::abort();
  }
  AlignedBytes &bytes() { return *bytes_; }

 private:
  template <typename Record>
  Record &record(const Section &section, size_t i) {
    return reinterpret_cast<Record *>(bytes_->data() + section.offset)[i];
  }
  AlignedBytes *bytes_;
};

/// Two services, four backends (one of them draining), an IPv4 and an IPv6 VIP; VIP 1 has two TCP
/// ranges (port_ranges[0], [1]) and a UDP range ([2]), VIP 2 one TCP range ([3]).
SnapshotBuilder example() {
  SnapshotBuilder builder;
  const uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11");
  const uint32_t b2 = builder.add_backend("web", "b2", "fd00:1::12", 50);
  const uint32_t b3 = builder.add_backend("dns", "b3", "10.1.0.13");
  const uint32_t b4 = builder.add_backend("dns", "b4", "10.1.0.14");
  builder.set_state(b4, kBackendDraining);
  const uint32_t web = builder.add_service("web", builder.add_pool({b1, b2}));
  const uint32_t dns = builder.add_service("dns", builder.add_pool({b3}), kSchedulerLeastConnection);
  builder.add_vip("198.51.100.10", {{80, 80, web}, {8000, 8999, web}}, {{53, 53, dns}});
  builder.add_vip("2001:db8::10", {{443, 443, web}});
  builder.add_check_source("10.0.0.9", {static_cast<uint16_t>(b1), 0, static_cast<uint16_t>(b4)});
  return builder;
}

TEST(SnapshotCheck, accepts_a_well_formed_snapshot) {
  const Status status = check_snapshot(example().build());
  EXPECT_TRUE(status.ok()) << status.error().message;
}

TEST(SnapshotCheck, accepts_a_snapshot_of_nothing) {
  const Status status = check_snapshot(SnapshotBuilder().build());
  EXPECT_TRUE(status.ok()) << status.error().message;
}

TEST(SnapshotCheck, accepts_slots_that_name_a_backend_that_is_down) {
  SnapshotBuilder builder;
  const uint32_t down = builder.add_backend("web", "b1", "10.1.0.11");
  builder.set_state(down, kBackendDown);
  builder.add_service("web", builder.add_pool({down}));
  EXPECT_TRUE(check_snapshot(builder.build()).ok());
}

TEST(SnapshotCheck, accepts_an_unused_service_whatever_else_it_says) {
  SnapshotBuilder builder = example();
  const uint32_t unused = builder.add_service("gone", 0);
  builder.service(unused).scheduler = 0;
  builder.service(unused).first_slot = 1u << 31;
  EXPECT_TRUE(check_snapshot(builder.build()).ok());
}

TEST(SnapshotCheck, accepts_thousands_of_vips) {
  SnapshotBuilder builder = example();
  for (int i = 0; i < 4000; i++)
    builder.add_vip("203.0." + std::to_string(i / 250) + "." + std::to_string(i % 250), {{80, 80, 0}});
  const Status status = check_snapshot(builder.build());
  EXPECT_TRUE(status.ok()) << status.error().message;
}

struct Corruption {
  std::string name;
  std::function<void(Records &)> spoil;
  std::string message;  // that the error must contain
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const Corruption &corruption, std::ostream *out) { *out << corruption.name; }

class RefusedCorruption : public testing::TestWithParam<Corruption> {};

TEST_P(RefusedCorruption, is_refused_with_its_field_named) {
  AlignedBytes bytes = example().build();
  Records records(&bytes);
  GetParam().spoil(records);
  SnapshotBuilder::seal(&bytes);
  const Status status = check_snapshot(bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr(GetParam().message));
}

const Corruption kHeaderCorruptions[] = {
    {"magic", [](Records &r) { r.header().magic++; }, "header.magic"},
    {"version", [](Records &r) { r.header().version = 1; }, "header.version: 1, this dataplane reads 4"},
    {"header_size", [](Records &r) { r.header().header_size += 8; }, "header.header_size: 248"},
    {"total_size_larger", [](Records &r) { r.header().total_size += 8; }, "header.total_size"},
    {"total_size_not_words",
     [](Records &r) { r.header().total_size -= 4, r.bytes().resize(r.bytes().size() - 4); },
     "is not a multiple of 8"},
    {"record_size", [](Records &r) { r.header().backends.record_size = 40; },
     "header.backends.record_size: 40"},
    {"section_unaligned", [](Records &r) { r.header().slots.offset += 2; }, "header.slots.offset"},
    {"section_in_header", [](Records &r) { r.header().services.offset = 64; }, "header.services.offset: 64"},
    {"section_after_end", [](Records &r) { r.header().strings.offset = 1u << 20; }, "header.strings.offset"},
    {"section_offset_huge", [](Records &r) { r.header().strings.offset = UINT64_MAX - 63; },
     "header.strings.offset"},
    {"section_too_long", [](Records &r) { r.header().strings.count = 100000; },
     "header.strings.count: 100000"},
    {"section_count_huge", [](Records &r) { r.header().slots.count = UINT32_MAX; }, "header.slots.count"},
    {"too_many_services", [](Records &r) { r.header().services.count = 65537; },
     "header.services.count: 65537"},
    {"too_many_backends", [](Records &r) { r.header().backends.count = 65537; },
     "header.backends.count: 65537"},
    {"sections_overlap", [](Records &r) { r.header().slots.offset = r.header().backends.offset; },
     "lies inside"},
    {"too_many_check_sources", [](Records &r) { r.header().check_sources.count = 17; },
     "header.check_sources.count: 17"},
    {"pin_of_no_backend", [](Records &r) { r.pin(1) = 5; }, "pins[1]: 5 is not among the 5 backends"},
    {"pin_of_an_unused_backend", [](Records &r) { r.pin(0) = 4, r.backend(4).state = kBackendUnused; },
     "pins[0]: 4 is not among"},
    {"pins_after_the_end", [](Records &r) { r.check_source(0).first_pin = 1; },
     "check_sources[0].first_pin: 1 with pin_count 3 ends after the 3 pins"},
    {"more_pins_than_ports", [](Records &r) { r.check_source(0).pin_count = 4097; },
     "check_sources[0].pin_count: 4097 is more than 4096"},
    {"no_vip_entries", [](Records &r) { r.header().vips.count = 0; }, "header.vips.count: 0"},
    {"vip_entries_no_power_of_two", [](Records &r) { r.header().vips.count = 3; }, "header.vips.count: 3"},
    {"vip_mask", [](Records &r) { r.header().vip_mask = 1; }, "header.vip_mask: 1"},
};

const Corruption kBackendCorruptions[] = {
    {"next_backend_identifier_too_low", [](Records &r) { r.header().next_backend_identifier--; },
     "header.next_backend_identifier: 4, but there are 5 backends"},
    {"next_backend_identifier_too_high", [](Records &r) { r.header().next_backend_identifier = 65537; },
     "header.next_backend_identifier: 65537 is more than 65536"},
    {"backend_state", [](Records &r) { r.backend(2).state = 5; }, "backends[2].state: 5"},
    {"backend_zero_in_use", [](Records &r) { r.backend(0) = r.backend(1); }, "backends[0].state: 1"},
    {"backend_forwarding", [](Records &r) { r.backend(2).forwarding = 7; }, "backends[2].forwarding: 7"},
    {"backend_weight", [](Records &r) { r.backend(1).weight = 1001; }, "backends[1].weight: 1001"},
    {"backend_up_without_weight", [](Records &r) { r.backend(1).weight = 0; }, "backends[1].weight: 0"},
    {"backend_draining_with_weight", [](Records &r) { r.backend(4).weight = 1; }, "backends[4].weight: 1"},
    {"backend_removed", [](Records &r) { r.backend(1).removed = 2; }, "backends[1].removed: 2"},
    {"backend_embryonic_timeout", [](Records &r) { r.backend(2).embryonic_timeout_s = 0; },
     "backends[2].embryonic_timeout_s: 0 is not between 1 and 7260"},
    {"backend_established_timeout", [](Records &r) { r.backend(2).established_timeout_s = 7261; },
     "backends[2].established_timeout_s: 7261"},
    {"backend_closing_timeout", [](Records &r) { r.backend(2).closing_timeout_s = 0; },
     "backends[2].closing_timeout_s: 0"},
    {"backend_udp_timeout", [](Records &r) { r.backend(2).udp_timeout_s = UINT16_MAX; },
     "backends[2].udp_timeout_s: 65535"},
    {"backend_pool", [](Records &r) { r.backend(1).pool.length = 1000; }, "backends[1].pool"},
    {"backend_name",
     [](Records &r) {
       r.backend(1).name = {UINT32_MAX, UINT32_MAX};
     },
     "backends[1].name"},
    {"slot_out_of_range", [](Records &r) { r.slot(3) = 5; }, "slots[3]: 5"},
    {"slot_zero", [](Records &r) { r.slot(3) = 0; }, "slots[3]: 0 is an unused or a closed backend"},
    {"slot_closed_backend",
     [](Records &r) {
       r.backend(1).state = kBackendClosed;
       r.backend(1).weight = 0;
     },
     "1 is an unused or a closed backend"},
    {"backend_ramp_step", [](Records &r) { r.backend(1).ramp_step = kRampSteps; },
     "ramp_step: 20 is not below 20"},
    {"slot_unused_backend", [](Records &r) { r.backend(1).state = 0; }, "1 is an unused or a closed backend"},
};

const Corruption kServiceCorruptions[] = {
    {"scheduler", [](Records &r) { r.service(1).scheduler = 3; }, "services[1].scheduler: 3"},
    {"slot_count", [](Records &r) { r.service(0).slot_count = 1 << 21; }, "services[0].slot_count: 2097152"},
    {"slots_end", [](Records &r) { r.service(1).first_slot++; }, "services[1].first_slot"},
    {"slots_wrap", [](Records &r) { r.service(1).first_slot = UINT32_MAX; },
     "services[1].first_slot: 4294967295"},
    {"embryonic_timeout", [](Records &r) { r.service(0).embryonic_timeout_s = 0; },
     "services[0].embryonic_timeout_s"},
    {"established_timeout", [](Records &r) { r.service(0).established_timeout_s = 7261; },
     "services[0].established_timeout_s: 7261"},
    {"closing_timeout", [](Records &r) { r.service(1).closing_timeout_s = 0; },
     "services[1].closing_timeout_s: 0"},
    {"udp_timeout", [](Records &r) { r.service(1).udp_timeout_s = 65535; },
     "services[1].udp_timeout_s: 65535"},
    {"service_name", [](Records &r) { r.service(1).name.offset = 5000; }, "services[1].name"},
    {"range_reversed", [](Records &r) { r.range(1).last_port = 7000; }, "port_ranges[1].last_port: 7000"},
    {"range_service", [](Records &r) { r.range(2).service = 2; }, "port_ranges[2].service: 2"},
    {"range_service_unused", [](Records &r) { r.service(1).scheduler = 0; }, "port_ranges[2].service: 1"},
};

const Corruption kVipCorruptions[] = {
    {"vip_number_not_given", [](Records &r) { r.vip(2).number = 3; },
     "number: 3 is not below header.next_vip_number 3"},
    {"vip_number_twice", [](Records &r) { r.vip(2).number = 1; }, "number: 1 is also that of"},
    {"vip_tcp_after_udp", [](Records &r) { r.vip(1).tcp_first = 3; }, "udp_first: 2 is before tcp_first 3"},
    {"vip_udp_end_before_first", [](Records &r) { r.vip(1).udp_end = 1; },
     "udp_end: 1 is before udp_first 2"},
    {"vip_udp_end_outside", [](Records &r) { r.vip(2).udp_end = 5; },
     "udp_end: 5 is after the 4 port ranges"},
    {"vip_ranges_overlap", [](Records &r) { r.range(1).first_port = 80; }, "TCP ranges port_ranges[0, 2)"},
    {"vip_ranges_unsorted", [](Records &r) { std::swap(r.range(0), r.range(1)); },
     "TCP ranges port_ranges[0, 2)"},
    {"vip_udp_ranges_unsorted", [](Records &r) { r.vip(1).udp_first = 1; }, "UDP ranges port_ranges[1, 3)"},
    {"vip_address_elsewhere",
     [](Records &r) {
       // An address whose search starts behind the entry: it meets an empty one on its way around.
       Vip &vip = r.vip(1);
       const auto behind = static_cast<uint32_t>(&vip - &r.vip_entry(0) + 1) & r.header().vip_mask;
       do vip.address.word[3]++;
       while ((vip_hash(&r.header().flow_hash_key, &vip.address) & r.header().vip_mask) != behind);
     },
     "is never found, because entry"},
    {"vip_address_twice",
     [](Records &r) {
       const Vip vip = r.vip(1);
       for (size_t i = 0; i < r.header().vips.count; i++) r.vip_entry(i).address = vip.address;
     },
     "address: is also that of"},
};

std::string corruption_name(const testing::TestParamInfo<Corruption> &info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Header, RefusedCorruption, testing::ValuesIn(kHeaderCorruptions), corruption_name);
INSTANTIATE_TEST_SUITE_P(Backends, RefusedCorruption, testing::ValuesIn(kBackendCorruptions),
                         corruption_name);
INSTANTIATE_TEST_SUITE_P(Services, RefusedCorruption, testing::ValuesIn(kServiceCorruptions),
                         corruption_name);
INSTANTIATE_TEST_SUITE_P(Vips, RefusedCorruption, testing::ValuesIn(kVipCorruptions), corruption_name);

TEST(SnapshotCheck, refuses_a_vip_farther_than_its_probes) {
  SnapshotBuilder builder;
  const uint32_t web = builder.add_service("web", builder.add_pool({}));
  constexpr uint32_t kMask = 2 * kMaxVipProbes - 1;
  const auto start_of = [&builder](const std::string &address) {
    const Address parsed = parse_address(address);
    return vip_hash(&builder.flow_hash_key, &parsed) & kMask;
  };
  // As many VIPs as there are probes, all of which want the same entry, and one more.
  std::vector<std::string> wanting_entry_3;
  for (int i = 0; wanting_entry_3.size() <= kMaxVipProbes; i++) {
    const std::string address = "198.51." + std::to_string(i / 250) + "." + std::to_string(i % 250);
    if (start_of(address) == 3) wanting_entry_3.push_back(address);
  }
  for (size_t i = 0; i < kMaxVipProbes; i++) builder.add_vip(wanting_entry_3[i], {{80, 80, web}});
  AlignedBytes bytes = builder.build();
  Records records(&bytes);
  ASSERT_EQ(records.header().vip_mask, kMask);
  EXPECT_TRUE(check_snapshot(bytes).ok());

  Vip &far_away = records.vip_entry(3 + kMaxVipProbes);
  ASSERT_EQ(far_away.number, 0);
  far_away.address = parse_address(wanting_entry_3.back());
  far_away.number = records.header().next_vip_number++;
  SnapshotBuilder::seal(&bytes);
  const Status status = check_snapshot(bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message,
              HasSubstr("vips[11].address: is not found within 8 probes from entry 3"));
}

TEST(SnapshotCheck, refuses_a_vip_behind_an_empty_entry) {
  AlignedBytes bytes = example().build();
  Records records(&bytes);
  const Vip vip = records.vip(1);
  const uint32_t mask = records.header().vip_mask;
  const uint32_t start = vip_hash(&records.header().flow_hash_key, &vip.address) & mask;
  for (uint32_t i = 0; i <= mask; i++) records.vip_entry(i) = Vip{};
  records.vip_entry((start + 1) & mask) = vip;
  SnapshotBuilder::seal(&bytes);
  const Status status = check_snapshot(bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("is never found"));
}

TEST(SnapshotCheck, refuses_every_flipped_bit_that_was_not_sealed) {
  const AlignedBytes good = example().build();
  for (size_t i = 0; i < good.size(); i++) {
    AlignedBytes bytes = good;
    bytes[i] ^= std::byte{0x10};
    EXPECT_FALSE(check_snapshot(bytes).ok()) << "byte " << i;
  }
}

TEST(SnapshotCheck, refuses_every_truncation) {
  const AlignedBytes good = example().build();
  for (size_t size = 0; size < good.size(); size++) {
    AlignedBytes bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(check_snapshot(bytes).ok()) << size << " bytes";
  }
}

TEST(SnapshotCheck, refuses_memory_that_does_not_start_at_a_cache_line) {
  AlignedBytes bytes = example().build();
  bytes.insert(bytes.begin(), 8, std::byte{0});
  const Status status = check_snapshot(std::span<const std::byte>(bytes).subspan(8));
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("64 bytes"));
}

}  // namespace
}  // namespace sluice
