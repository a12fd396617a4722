#include "controlplane/model/snapshot_view.h"

#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/compile/compiler.h"

namespace sluice {
namespace {

using testing::HasSubstr;

SnapshotBytes small_snapshot() {
  model::DesiredState desired;
  desired.services.push_back({.name = "s",
                              .vips = {*parse_address("192.0.2.1"), *parse_address("2001:db8::1")},
                              .protocol = model::Protocol::kTcp,
                              .ports = {{80, 80}, {1000, 1999}},
                              .pool = "p",
                              .scheduler = model::Scheduler::kMaglev,
                              .timeouts = {}});
  desired.pools.push_back(
      {.name = "p", .slots = 101, .backends = {{.name = "b", .address = *parse_address("10.0.0.1")}}});
  desired.pools[0].health.vip = *parse_address("192.0.2.1");
  desired.pools[0].health.source_ipv4 = *parse_address("10.0.0.9");
  model::Identifiers identifiers;
  EXPECT_TRUE(identifiers.assign(desired, 0).ok());
  Compiler compiler;
  return compiler.compile({.desired = desired, .observed = {}, .identifiers = identifiers, .revision = 7})
      .value()
      .bytes;
}

// The error of a snapshot after `change` was done to its header, with a right checksum again.
template <typename Change>
std::string error_after(Change change) {
  SnapshotBytes bytes = small_snapshot();
  SnapshotHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  change(&header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.checksum = snapshot_checksum(bytes.data(), bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  const auto view = SnapshotView::open(bytes);
  return view.ok() ? "no error" : view.error().message;
}

TEST(SnapshotView, reads_what_was_compiled) {
  const SnapshotBytes bytes = small_snapshot();
  const auto view = SnapshotView::open(bytes);
  ASSERT_TRUE(view.ok()) << view.error().message;
  EXPECT_EQ(view.value().header().revision, 7u);
  EXPECT_EQ(view.value().text(view.value().services()[0].name), "s");
  const Vip *vip = view.value().find_vip(*parse_address("2001:db8::1"));
  ASSERT_NE(vip, nullptr);
  EXPECT_EQ(view.value().find_vip_by_number(vip->number), vip);
  EXPECT_EQ(view.value().find_vip_by_number(0), nullptr);
  EXPECT_EQ(view.value().find_vip_by_number(99), nullptr);
  EXPECT_EQ(view.value().find_vip(*parse_address("192.0.2.2")), nullptr);
}

TEST(SnapshotView, damaged_bytes_are_refused) {
  const SnapshotBytes good = small_snapshot();
  for (size_t offset = 0; offset < good.size(); ++offset) {
    SnapshotBytes bytes = good;
    bytes[offset] ^= std::byte{0x10};
    EXPECT_FALSE(SnapshotView::open(bytes).ok()) << "byte " << offset;
  }
}

TEST(SnapshotView, cut_bytes_are_refused) {
  const SnapshotBytes good = small_snapshot();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(SnapshotView::open(std::span(good).first(size)).ok()) << size;
  }
}

TEST(SnapshotView, sections_that_lie_outside_are_refused) {
  EXPECT_EQ(error_after([](SnapshotHeader *) {}), "no error");
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->version = 1; }),
              HasSubstr("version 1, this version reads 4"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->services.offset = ~uint64_t{0} - 31; }),
              HasSubstr("services"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->services.count = ~0u; }), HasSubstr("services"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->vips.record_size = 31; }),
              HasSubstr("vips records have 31 bytes"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->vip_mask = 1; }), HasSubstr("VIP table"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->port_ranges.count -= 1; }),
              HasSubstr("port ranges lie outside"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->backends.count -= 1; }), HasSubstr("backend"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->slots.count -= 1; }), HasSubstr("slots lie outside"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->pins.count -= 1; }),
              HasSubstr("pins of a source of checks"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->check_sources.record_size = 20; }),
              HasSubstr("check_sources records have 20 bytes"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->strings.count -= 1; }), HasSubstr("name lies outside"));
  EXPECT_THAT(error_after([](SnapshotHeader *h) { h->strings.offset = 8; }), HasSubstr("strings"));
}

TEST(SnapshotView, random_headers_never_lead_outside) {
  const SnapshotBytes good = small_snapshot();
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    SnapshotBytes bytes = good;
    for (int change = 0; change < 3; ++change) {
      // Anything but magic, version, header size and total size, which are refused at once.
      const size_t offset = 32 + random() % (bytes.size() - 32);
      bytes[offset] = static_cast<std::byte>(random());
    }
    auto *header = reinterpret_cast<SnapshotHeader *>(bytes.data());
    header->checksum = snapshot_checksum(bytes.data(), bytes.size());
    const auto view = SnapshotView::open(bytes);
    if (!view.ok()) continue;
    // What the sanitizers would see: every name, slot and range of an accepted snapshot.
    size_t touched = 0;
    for (const Service &service : view.value().services()) {
      touched += view.value().text(service.name).size() + view.value().slots_of(service).size();
    }
    for (const Vip &vip : view.value().vips()) {
      touched += view.value().find_service(vip, SnapshotView::Transport::kTcp, 80).value_or(0);
      touched += view.value().find_vip(vip.address) != nullptr ? 1 : 0;
    }
    for (const Backend &backend : view.value().backends()) touched += view.value().text(backend.name).size();
    EXPECT_LT(touched, bytes.size() * 4);
  }
}

}  // namespace
}  // namespace sluice
