#include "controlplane/publish/counter_reader.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/publish/sealed_memfd.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {
namespace {

using testing::HasSubstr;

// The dataplane's own region, and the control plane's look at it.
struct Region {
  CounterRegion written;
  CounterView read;
};

Region make_region() {
  auto written = CounterRegion::create(
      {.worker_count = 2, .backend_capacity = 10, .service_capacity = 3, .tsc_hz = 1, .started_unix_ns = 2});
  EXPECT_TRUE(written.ok());
  auto descriptor = written.value().read_only_descriptor();
  EXPECT_TRUE(descriptor.ok());
  auto read = CounterView::open(FileDescriptor(descriptor.value().release()));
  EXPECT_TRUE(read.ok()) << read.error().message;
  return {std::move(written).value(), std::move(read).value()};
}

TEST(CounterReader, sums_verdicts_and_bytes_over_workers) {
  const Region region = make_region();
  region.written.worker(0).verdict_packets[kVerdictForwardNew] = 5;
  region.written.worker(1).verdict_packets[kVerdictForwardNew] = 7;
  region.written.worker(1).verdict_packets[kVerdictDropInternal] = 1;
  region.written.worker(0).received_packets = 5;
  region.written.worker(1).received_packets = 8;
  region.written.worker(1).total_cycles = 99;
  const CounterTotals totals = read_totals(region.read);
  EXPECT_EQ(totals.verdict_packets[kVerdictForwardNew], 12u);
  EXPECT_EQ(totals.verdict_packets[kVerdictDropInternal], 1u);
  EXPECT_EQ(totals.received_packets, 13u);
  EXPECT_EQ(totals.total_cycles, 99u);
  EXPECT_EQ(read_worker(region.read, 0).received_packets, 5u);
}

TEST(CounterReader, sums_backends_and_services_by_identifier) {
  const Region region = make_region();
  region.written.backends(0)[9] = {.packets = 1,
                                   .bytes = 2,
                                   .opened_connections = 3,
                                   .active_connections = 4,
                                   .tcp_opens = 5,
                                   .tcp_progresses = 6,
                                   .tcp_repeated_opens = 7,
                                   .tcp_resets = 8};
  region.written.backends(1)[9] = {.packets = 10,
                                   .bytes = 20,
                                   .opened_connections = 30,
                                   .active_connections = 40,
                                   .tcp_opens = 50,
                                   .tcp_progresses = 60,
                                   .tcp_repeated_opens = 70,
                                   .tcp_resets = 80};
  region.written.unreachables()[9] = 9;
  region.written.services(1)[2] = {.packets = 6, .bytes = 7};
  const auto backends = read_backends(region.read);
  ASSERT_EQ(backends.size(), 10u);
  EXPECT_EQ(backends[9].packets, 11u);
  EXPECT_EQ(backends[9].bytes, 22u);
  EXPECT_EQ(backends[9].opened_connections, 33u);
  EXPECT_EQ(backends[9].active_connections, 44u);
  EXPECT_EQ(backends[9].tcp_opens, 55u);
  EXPECT_EQ(backends[9].tcp_progresses, 66u);
  EXPECT_EQ(backends[9].tcp_repeated_opens, 77u);
  EXPECT_EQ(backends[9].tcp_resets, 88u);
  EXPECT_EQ(backends[9].unreachables, 9u);
  EXPECT_EQ(backends[8].packets, 0u);
  EXPECT_EQ(read_backend(region.read, 9), backends[9]);
  EXPECT_EQ(read_backend(region.read, 10), BackendTotals()) << "the region has no such backend";
  const auto services = read_services(region.read);
  ASSERT_EQ(services.size(), 3u);
  EXPECT_EQ(services[2].packets, 6u);
  EXPECT_EQ(services[2].bytes, 7u);
}

TEST(CounterReader, verdicts_have_their_names) {
  EXPECT_EQ(verdict_texts()[kVerdictForwardNew].metric, "forward_new");
  EXPECT_EQ(verdict_texts()[kVerdictDropInternal].metric, "drop_internal");
  for (const VerdictText &text : verdict_texts()) EXPECT_FALSE(text.help.empty());
}

// The error of a region whose header was changed.
template <typename Change>
std::string error_after(Change change) {
  CounterRegionHeader header{.magic = SLUICE_COUNTER_MAGIC,
                             .version = SLUICE_COUNTER_VERSION,
                             .header_size = 2 * kCounterHeaderSize,
                             .total_size = 2 * kCounterHeaderSize + 2 * 4096,
                             .worker_count = 2,
                             .verdict_count = kVerdictCount,
                             .backend_capacity = 10,
                             .service_capacity = 3,
                             .worker_stride = 4096,
                             .backends_offset = sizeof(WorkerCounters),
                             .services_offset = sizeof(WorkerCounters) + 10 * sizeof(BackendCounters),
                             .tsc_hz = 1,
                             .started_unix_ns = 1,
                             .unreachables_offset = kCounterHeaderSize};
  std::vector<std::byte> bytes(header.total_size);
  change(&header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  const auto view = CounterView::open(make_sealed_memfd(bytes).value());
  return view.ok() ? "no error" : view.error().message;
}

TEST(CounterReader, header_that_claims_more_than_the_file_holds_is_refused) {
  EXPECT_EQ(error_after([](CounterRegionHeader *) {}), "no error");
  const std::string more = "claims more than its 16384 bytes hold";
  EXPECT_THAT(error_after([](auto *h) { h->magic = 0; }), HasSubstr("magic"));
  EXPECT_THAT(error_after([](auto *h) { h->version = 1; }), HasSubstr("version 1, this sluiced reads 3"));
  EXPECT_THAT(error_after([](auto *h) { h->verdict_count = 1; }),
              HasSubstr("1 verdicts, this sluiced knows"));
  EXPECT_THAT(error_after([](auto *h) { h->total_size += 1; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->total_size = ~uint64_t{0}; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->worker_count = 3; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->worker_count = ~0u; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->worker_stride = uint64_t{1} << 63; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->worker_stride = 4095; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->worker_stride = 8; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->backend_capacity = 10000; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->service_capacity = ~0u; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->backends_offset = 4096 - 8; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->services_offset = ~uint64_t{0}; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->services_offset = 4; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->unreachables_offset = 2 * 4096 - 72; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->unreachables_offset = ~uint64_t{0} - 7; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->unreachables_offset = 4100; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->unreachables_offset = 0; }), HasSubstr(more));
}

}  // namespace
}  // namespace sluice
