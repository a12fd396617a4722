#include "controlplane/publish/connection_reader.h"

#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/compile/compiler.h"
#include "controlplane/publish/sealed_memfd.h"
#include "dataplane/server/connection_region.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kNow = 100'000;  // seconds since boot

Address address(const std::string &text) { return parse_address(text).value(); }

uint16_t meta(ConnectionState state, uint64_t last_seen_s, bool udp = false) {
  return static_cast<uint16_t>((udp ? 1 : 0) | state << kMetaStateShift |
                               (last_seen_s & kStampMask) << kMetaStampShift);
}

// The dataplane's own region with two workers, and a snapshot with services on 192.0.2.1:80/tcp, all
// UDP ports of it, and [2001:db8::1]:80.
class ConnectionReaderTest : public testing::Test {
 public:
  ConnectionReaderTest()
      : path_(std::filesystem::temp_directory_path() /
              ("sluice-cp-connections" + std::to_string(::getpid()))),
        region_(make_region(path_)),
        bytes_(make_snapshot()),
        snapshot_(SnapshotView::open(bytes_).value()) {}
  ~ConnectionReaderTest() override { std::filesystem::remove(path_); }

  static ConnectionRegion make_region(const std::filesystem::path &path) {
    auto region = ConnectionRegion::open(
        {.path = path, .worker_count = 2, .ipv4_connections = 64, .ipv6_connections = 64},
        {.boottime_s = kNow, .boot_id = 1});
    EXPECT_TRUE(region.ok()) << region.error().message;
    return std::move(region).value();
  }

  static SnapshotBytes make_snapshot() {
    model::DesiredState desired;
    desired.services = {{.name = "web",
                         .vips = {address("192.0.2.1"), address("2001:db8::1")},
                         .ports = {{80, 80}},
                         .pool = "p"},
                        {.name = "dns",
                         .vips = {address("192.0.2.1")},
                         .protocol = model::Protocol::kUdp,
                         .ports = {{}},
                         .pool = "p"}};
    desired.services[0].timeouts.established = 100s;
    desired.pools = {{.name = "p",
                      .slots = 101,
                      .backends = {{.name = "b1", .address = address("10.0.0.1")},
                                   {.name = "b2", .address = address("10.0.0.2")}}}};
    model::Identifiers identifiers;
    EXPECT_TRUE(identifiers.assign(desired, 0).ok());
    Compiler compiler;
    return compiler.compile({.desired = desired, .observed = {}, .identifiers = identifiers}).value().bytes;
  }

  // Puts an entry of 192.0.2.7:4000 to 192.0.2.1:`vip_port` into worker 1's table.
  void add_ipv4(uint16_t vip_port, uint16_t entry_meta, uint16_t backend, size_t bucket = 3) {
    region_.ipv4_buckets(1)[bucket].ipv4[2] = {.client = address("192.0.2.7").word[3],
                                               .vip = address("192.0.2.1").word[3],
                                               .client_port = host_to_be16(4000),
                                               .vip_port = host_to_be16(vip_port),
                                               .meta = entry_meta,
                                               .backend = backend};
  }

  ConnectionList list(const ConnectionFilter &filter = {}) {
    const FileDescriptor descriptor(region_.read_only_descriptor().value().release());
    const auto view = ConnectionView::open(descriptor);
    EXPECT_TRUE(view.ok()) << view.error().message;
    return list_connections(view.value(), snapshot_, filter, kNow);
  }

  std::filesystem::path path_;
  ConnectionRegion region_;
  SnapshotBytes bytes_;
  SnapshotView snapshot_;
};

TEST_F(ConnectionReaderTest, empty_tables_list_nothing) { EXPECT_THAT(list().records, IsEmpty()); }

TEST_F(ConnectionReaderTest, ipv4_entry_is_listed_with_its_names) {
  add_ipv4(80, meta(kConnectionEstablished, kNow - 5), 2);
  const ConnectionList listed = list();
  EXPECT_EQ(listed.matched, 1u);
  ASSERT_EQ(listed.records.size(), 1u);
  const ConnectionRecord &record = listed.records[0];
  EXPECT_EQ(format_address(record.client), "192.0.2.7");
  EXPECT_EQ(format_address(record.vip), "192.0.2.1");
  EXPECT_EQ(record.client_port, 4000);
  EXPECT_EQ(record.vip_port, 80);
  EXPECT_FALSE(record.udp);
  EXPECT_EQ(record.state, kConnectionEstablished);
  EXPECT_EQ(record.idle_s, 5u);
  EXPECT_EQ(record.timeout_s, 100u);
  EXPECT_EQ(record.backend_id, 2);
  EXPECT_EQ(record.table, 1u);
  EXPECT_EQ(record.service, "web");
  EXPECT_EQ(record.pool, "p");
  EXPECT_EQ(record.backend, "b2");
}

TEST_F(ConnectionReaderTest, ipv6_entry_gets_its_vip_by_number) {
  const Vip *vip = snapshot_.find_vip(address("2001:db8::1"));
  ASSERT_NE(vip, nullptr);
  region_.ipv6_buckets(0)[1].ipv6[1] = {.client = address("2001:db8::77"),
                                        .vip_number = vip->number,
                                        .bucket_tag = 9,
                                        .client_port = host_to_be16(4001),
                                        .vip_port = host_to_be16(80),
                                        .meta = meta(kConnectionEmbryonic, kNow),
                                        .backend = 1};
  const ConnectionList listed = list();
  ASSERT_EQ(listed.records.size(), 1u);
  EXPECT_EQ(format_address(listed.records[0].client), "2001:db8::77");
  EXPECT_EQ(format_address(listed.records[0].vip), "2001:db8::1");
  EXPECT_EQ(listed.records[0].client_port, 4001);
  EXPECT_EQ(listed.records[0].service, "web");
  EXPECT_EQ(listed.records[0].backend, "b1");
  EXPECT_EQ(listed.records[0].table, 0u);
}

TEST_F(ConnectionReaderTest, udp_entry_belongs_to_the_udp_service) {
  add_ipv4(80, meta(kConnectionEstablished, kNow, true), 1);
  const ConnectionList listed = list();
  ASSERT_EQ(listed.records.size(), 1u);
  EXPECT_TRUE(listed.records[0].udp);
  EXPECT_EQ(listed.records[0].service, "dns");
  EXPECT_EQ(listed.records[0].timeout_s, 30u);
}

TEST_F(ConnectionReaderTest, expired_entry_is_listed_only_on_request) {
  add_ipv4(80, meta(kConnectionEstablished, kNow - 101), 1);
  EXPECT_THAT(list().records, IsEmpty());
  EXPECT_EQ(list({.include_expired = true}).records.size(), 1u);
  add_ipv4(80, meta(kConnectionEstablished, kNow - 100), 1);
  EXPECT_EQ(list().records.size(), 1u);
  add_ipv4(80, meta(kConnectionClosing, kNow - 11), 1);
  EXPECT_THAT(list().records, IsEmpty());
}

TEST_F(ConnectionReaderTest, entry_that_the_snapshot_does_not_know_is_listed_without_names) {
  add_ipv4(81, meta(kConnectionEstablished, kNow), 77);
  const ConnectionList listed = list();
  ASSERT_EQ(listed.records.size(), 1u);
  EXPECT_EQ(listed.records[0].service, "");
  EXPECT_EQ(listed.records[0].backend, "");
  EXPECT_EQ(listed.records[0].timeout_s, 0u);
}

TEST_F(ConnectionReaderTest, limit_bounds_the_list_and_not_the_count) {
  for (size_t bucket = 0; bucket < 10; ++bucket) add_ipv4(80, meta(kConnectionEstablished, kNow), 1, bucket);
  const ConnectionList listed = list({.limit = 3});
  EXPECT_EQ(listed.records.size(), 3u);
  EXPECT_EQ(listed.matched, 10u);
}

TEST_F(ConnectionReaderTest, pages_together_have_every_entry_once) {
  for (size_t bucket = 0; bucket < 10; ++bucket) add_ipv4(80, meta(kConnectionEstablished, kNow), 1, bucket);
  std::optional<uint64_t> after;
  std::vector<size_t> sizes;
  std::set<uint64_t> places;
  do {
    const ConnectionList page = list({.after = after, .limit = 4});
    sizes.push_back(page.records.size());
    after = page.next;
    EXPECT_TRUE(!after || places.insert(*after).second);
  } while (after && sizes.size() < 10);
  EXPECT_THAT(sizes, testing::ElementsAre(4, 4, 2));
  EXPECT_FALSE(list({.limit = 10}).next);
  EXPECT_FALSE(list({.limit = 0}).next);
}

TEST_F(ConnectionReaderTest, one_of_several_services_is_enough) {
  add_ipv4(80, meta(kConnectionEstablished, kNow), 1, 0);
  add_ipv4(53, meta(kConnectionEstablished, kNow, true), 2, 1);
  using Names = std::vector<std::string>;
  EXPECT_EQ(list({.services = Names{"web", "x"}}).matched, 1u);
  EXPECT_EQ(list({.services = Names{"web", "dns"}}).matched, 2u);
  EXPECT_EQ(list({.services = Names{}}).matched, 0u);
  EXPECT_EQ(list({.service = "dns", .services = Names{"web"}}).matched, 0u);
}

TEST_F(ConnectionReaderTest, every_condition_of_a_filter_must_hold) {
  add_ipv4(80, meta(kConnectionEstablished, kNow), 1, 0);
  add_ipv4(53, meta(kConnectionEstablished, kNow, true), 2, 1);
  EXPECT_EQ(list().matched, 2u);
  EXPECT_EQ(list({.client = address("192.0.2.7")}).matched, 2u);
  EXPECT_EQ(list({.client = address("192.0.2.8")}).matched, 0u);
  EXPECT_EQ(list({.vip = address("192.0.2.1")}).matched, 2u);
  EXPECT_EQ(list({.vip_port = 53}).matched, 1u);
  EXPECT_EQ(list({.service = "web"}).matched, 1u);
  EXPECT_EQ(list({.pool = "p"}).matched, 2u);
  EXPECT_EQ(list({.backend = "b2"}).matched, 1u);
  EXPECT_EQ(list({.vip_port = 53, .service = "web"}).matched, 0u);
}

// The error of a region whose header was changed.
template <typename Change>
std::string error_after(Change change) {
  ConnectionRegionHeader header{};
  header.magic = SLUICE_CONNECTION_MAGIC;
  header.version = SLUICE_CONNECTION_VERSION;
  header.header_size = kConnectionHeaderSize;
  header.total_size = kConnectionHeaderSize + 2 * 64 * 24;
  header.table_count = 2;
  header.live_tables = 1;
  header.ipv4_buckets = 16;
  header.ipv6_buckets = 8;
  std::vector<std::byte> bytes(header.total_size);
  change(&header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  const auto view = ConnectionView::open(make_sealed_memfd(bytes).value());
  return view.ok() ? "no error" : view.error().message;
}

TEST(ConnectionView, header_that_claims_more_than_the_file_holds_is_refused) {
  EXPECT_EQ(error_after([](ConnectionRegionHeader *) {}), "no error");
  const std::string more = "claims more than its 7168 bytes hold";
  EXPECT_THAT(error_after([](auto *h) { h->magic = 0; }), HasSubstr("magic"));
  EXPECT_THAT(error_after([](auto *h) { h->version = 99; }), HasSubstr("version 99, this sluiced reads"));
  EXPECT_THAT(error_after([](auto *h) { h->header_size = 0; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->total_size += 64; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->table_count = 3; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->table_count = ~0u; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->live_tables = 3; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->ipv4_buckets = 17; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->ipv6_buckets = ~0u; }), HasSubstr(more));
}

}  // namespace
}  // namespace sluice
