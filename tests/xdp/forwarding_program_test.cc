// How the program is filled and emptied: generations, room, maps of a program before it, the sweep, the
// clock.
#include "dataplane/xdp/forwarding_program.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/core/limits.h"
#include "tests/core/flows.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr uint32_t kLoopback = 1;  // its index in any network namespace
constexpr uint32_t kNowS = 1000;

ForwardingProgramOptions small_options() {
  return {.ipv4_buckets = 16, .ipv6_buckets = 16, .port_ifindexes = {kLoopback}};
}

/// The snapshot with egress records as the server would make them.
ForwardingTables tables_of(const SnapshotBuilder &builder) {
  const TestTables tables(builder);
  return forwarding_tables(builder, {tables->egress, tables->backend_count});
}

/// One service, on 198.51.100.10 port 80, whose backends are the last `members` of `backends`.
SnapshotBuilder snapshot_with(uint32_t backends, uint32_t members) {
  SnapshotBuilder builder;
  std::vector<uint32_t> pool;
  for (uint32_t i = 1; i <= backends; i++) {
    const uint32_t backend = builder.add_backend("pool", "backend", "10.1.0." + std::to_string(i));
    if (i > backends - members) pool.push_back(backend);
  }
  const uint32_t web = builder.add_service("web", builder.add_pool(pool));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  return builder;
}

std::string verdict_of(const XdpOutcome &outcome) { return verdict_name(outcome.verdict); }

template <typename T>
std::string error_of(const Result<T> &result) {
  return result.ok() ? "no error" : result.error().message;
}

std::string load_error(ForwardingProgramOptions options) {
  if (options.connections_bytes == 0) options.connections_bytes = 1 << 20;
  return error_of(ForwardingProgram::load(options));
}

/// The program with a standard snapshot and a second for its packets.
class Program : public testing::Test {
 protected:
  Program() : program_(small_options()) {
    program_.set_time(kNowS);
    program_.worker(0).icmp_reply_budget = 10;
  }

  XdpOutcome send(const TestFlow &flow, uint8_t tcp_flags) {
    return program_.run(0, frame_of_flow(flow, tcp_flags));
  }

  LoadedProgram program_;
};

TEST_F(Program, leaves_everything_to_the_kernel_before_the_first_snapshot) {
  const XdpOutcome outcome = send({}, kTcpSyn);
  EXPECT_EQ(verdict_of(outcome), "pass_no_snapshot");
  EXPECT_EQ(outcome.action, XDP_PASS);
}

TEST_F(Program, connections_go_on_in_the_next_generation) {
  program_.install(tables_of(snapshot_with(2, 1)));
  EXPECT_EQ(send({}, kTcpSyn).backend, 2);
  program_.install(tables_of(snapshot_with(3, 1)));
  const XdpOutcome within = send({}, kTcpAck);
  EXPECT_EQ(verdict_of(within), "forward_established");
  EXPECT_EQ(within.backend, 2);
  EXPECT_EQ(send({.client = 2}, kTcpSyn).backend, 3);
}

// Its records are from two generations ago when nobody empties them.
TEST_F(Program, backend_that_the_snapshot_has_no_more_is_unknown_to_its_entries) {
  program_.install(tables_of(snapshot_with(2, 1)));
  program_.install(tables_of(snapshot_with(2, 1)));
  EXPECT_EQ(send({}, kTcpSyn).backend, 2);
  EXPECT_EQ(send({}, kTcpAck).backend, 2);
  for (int generation = 0; generation < 2; generation++) {
    program_.install(tables_of(snapshot_with(1, 1)));
    const XdpOutcome outcome = send({}, kTcpAck);
    EXPECT_EQ(verdict_of(outcome), generation == 0 ? "forward_new" : "forward_established");
    EXPECT_EQ(outcome.backend, 1);
  }
  EXPECT_EQ(program_.counters().backends(0)[2].active_connections, 0u);
}

TEST_F(Program, snapshot_with_more_slots_than_there_is_room_for_is_refused_and_the_old_one_stays) {
  program_.install(tables_of(snapshot_with(1, 1)));
  SnapshotBuilder large = snapshot_with(2, 2);
  large.add_pool({2}, 300000);
  const ForwardingTables tables = tables_of(large);
  const Result<bool> room = program_.program().has_room_for(tables);
  ASSERT_TRUE(room.ok()) << room.error().message;
  EXPECT_FALSE(room.value());
  EXPECT_THAT(error_of(program_.program().install(tables)), HasSubstr("slots: no room"));
  EXPECT_EQ(send({}, kTcpSyn).backend, 1);
}

TEST(ForwardingProgram, has_room_for_the_slots_that_it_was_loaded_for) {
  SnapshotBuilder builder;
  const uint32_t first = builder.add_backend("pool", "first", "10.1.0.1");
  const uint32_t last = builder.add_backend("pool", "last", "10.1.0.2");
  builder.add_pool({first}, 300000 - 1);
  const uint32_t web = builder.add_service("web", builder.add_pool({last}, 1));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  ForwardingProgramOptions options = small_options();
  options.slots = 300000;
  LoadedProgram program(options);
  // Both generations have it.
  for (int generation = 0; generation < 2; generation++) {
    program.install(tables_of(builder));
    EXPECT_EQ(program.run(0, frame_of_flow({}, kTcpRst)).backend, last);
  }
}

TEST(ForwardingProgram, that_is_too_large_is_told_as_the_verifier_says_and_not_as_lack_of_memory) {
  ForwardingProgramOptions options = small_options();
  options.connections_bytes = 3 << 20;
  EXPECT_THAT(
      why_not_loaded(-E2BIG, "sluice_xdp: \"BPF program is too large. Processed 1000001 insn\"", options),
      AllOf(HasSubstr("its verifier says of sluice_xdp: \"BPF program is too large"),
            Not(HasSubstr("memory"))));
  for (const auto &[error, refusal] : {std::pair(-E2BIG, ""), {-ENOMEM, ""}, {-ENOMEM, "sluice_xdp: \"r0\""}})
    EXPECT_THAT(why_not_loaded(error, refusal, options),
                AllOf(HasSubstr("no memory for its maps"), HasSubstr("take 3 MiB: ask for fewer")));
}

TEST_F(Program, snapshot_beyond_any_programs_capacity_is_an_error_that_names_the_table) {
  SnapshotBuilder builder = snapshot_with(1, 1);
  std::vector<PortRange> ports;
  for (uint32_t port = 0; port < 65536; port++)
    ports.push_back({static_cast<uint16_t>(port), static_cast<uint16_t>(port), 0});
  for (uint32_t vip = 1; vip <= 8; vip++) builder.add_vip("198.51.101." + std::to_string(vip), ports);
  const ForwardingTables tables = tables_of(builder);
  EXPECT_THAT(error_of(program_.program().has_room_for(tables)), HasSubstr("port_ranges: 524289 records"));
  EXPECT_THAT(error_of(program_.program().install(tables)), HasSubstr("port_ranges: 524289 records"));
}

TEST_F(Program, sweep_empties_what_has_expired_and_nothing_else) {
  program_.install(tables_of(snapshot_with(1, 1)));
  for (uint32_t client = 1; client <= 20; client++) send({.client = client}, kTcpSyn);
  program_.set_time(kNowS + 8);
  send({.client = 21}, kTcpSyn);
  program_.set_time(kNowS + 11);  // embryonic entries have ten seconds
  program_.sweep(0, 1);
  EXPECT_EQ(program_.counters().worker(0).expired_entries, 20u);
  EXPECT_EQ(program_.counters().backends(0)[1].active_connections, 1u);
  uint32_t entries = 0;
  for (const ConnectionBucket &bucket : program_.table(0))
    for (const ConnectionIpv4 &entry : bucket.ipv4) entries += entry.meta != 0;
  EXPECT_EQ(entries, 1u);
  EXPECT_EQ(verdict_of(send({.client = 21}, kTcpAck)), "forward_established");
}

TEST(ForwardingProgram, sweep_goes_on_where_the_last_one_ended) {
  ForwardingProgramOptions options = small_options();
  options.ipv4_buckets = 4 * kXdpSweepBuckets;
  LoadedProgram program(options);
  program.install(tables_of(snapshot_with(1, 1)));
  program.set_time(kNowS);
  for (uint32_t client = 1; client <= 1000; client++)
    program.run(0, frame_of_flow({.client = client}, kTcpSyn));
  program.set_time(kNowS + 11);
  uint64_t before = 0;
  for (int run = 0; run < 4; run++) {
    program.sweep(0, 1);
    const uint64_t expired = program.counters().worker(0).expired_entries;
    EXPECT_GT(expired, before);
    before = expired;
  }
  EXPECT_EQ(before, 1000u);
}

TEST(ForwardingProgram, sweep_is_of_the_table_of_the_cpu_that_it_runs_on) {
  ForwardingProgramOptions options = small_options();
  options.worker_count = options.table_count = 2;
  LoadedProgram program(options);
  program.install(tables_of(snapshot_with(1, 1)));
  program.set_time(kNowS);
  for (const uint32_t worker : {0u, 1u}) program.run(worker, frame_of_flow({}, kTcpSyn));
  program.set_time(kNowS + 11);
  program.sweep(1, 1);
  EXPECT_EQ(program.counters().worker(0).expired_entries, 0u);
  EXPECT_EQ(program.counters().worker(1).expired_entries, 1u);
}

TEST(ForwardingProgram, goes_on_with_the_connections_and_counts_of_one_before_it) {
  LoadedProgram before(small_options());
  before.install(tables_of(snapshot_with(2, 1)));
  before.set_time(kNowS);
  before.run(0, frame_of_flow({}, kTcpSyn));

  ForwardingProgramOptions options = small_options();
  options.connections_fd = before.program().connections_fd();
  options.counters_fd = before.program().counters_fd();
  LoadedProgram after(options);
  after.install(tables_of(snapshot_with(3, 1)));
  after.set_time(kNowS);
  const XdpOutcome outcome = after.run(0, frame_of_flow({}, kTcpAck));
  EXPECT_EQ(verdict_of(outcome), "forward_established");
  EXPECT_EQ(outcome.backend, 2);
  EXPECT_EQ(after.counters().worker(0).received_packets, 2u);
  EXPECT_EQ(before.counters().backends(0)[2].packets, 2u);
}

TEST(ForwardingProgram, map_of_another_size_is_not_gone_on_with) {
  LoadedProgram before(small_options());
  const ForwardingProgram &program = before.program();

  ForwardingProgramOptions larger = program.options();
  larger.ipv4_buckets *= 2;
  larger.connections_bytes *= 2;
  larger.connections_fd = program.connections_fd();
  EXPECT_THAT(load_error(larger), HasSubstr("map connections: the one to go on with has 96 elements"));

  ForwardingProgramOptions more_workers = program.options();
  more_workers.worker_count = more_workers.table_count = 2;
  more_workers.connections_bytes = 0;
  more_workers.counters_fd = program.counters_fd();
  EXPECT_THAT(load_error(more_workers), HasSubstr("map counters: the one to go on with has 2 elements"));
}

TEST(ForwardingProgram, map_of_another_kind_is_not_gone_on_with) {
  LoadedProgram before(small_options());
  ForwardingProgramOptions exchanged = before.program().options();
  exchanged.connections_fd = before.program().counters_fd();
  EXPECT_THAT(load_error(exchanged), HasSubstr("map connections: the one to go on with has 2 elements"));
}

TEST(ForwardingProgram, options_that_cannot_be_are_errors_that_name_them) {
  ForwardingProgramOptions options = small_options();
  options.worker_count = 0;
  EXPECT_THAT(load_error(options), HasSubstr("worker_count: 0 is not between 1 and 64"));
  options.worker_count = 65;
  EXPECT_THAT(load_error(options), HasSubstr("worker_count: 65 is not between 1 and 64"));

  options = small_options();
  options.port_ifindexes.assign(33, kLoopback);
  EXPECT_THAT(load_error(options), HasSubstr("33 ports, at most 32"));
  options.port_ifindexes = {kLoopback, 999999};
  EXPECT_THAT(load_error(options), HasSubstr("port 1: interface 999999"));

  options = small_options();
  options.connections_bytes = 4096;
  EXPECT_THAT(load_error(options), HasSubstr("connections: 4096 bytes hold 64 buckets, 96 are needed"));
}

TEST_F(Program, next_hop_behind_a_port_that_is_not_there_is_counted_as_internal_error) {
  ForwardingTables tables = tables_of(snapshot_with(1, 1));
  tables.egress[1].port = 5;
  program_.install(tables);
  const XdpOutcome outcome = send({}, kTcpSyn);
  EXPECT_EQ(verdict_of(outcome), "drop_internal");
  EXPECT_EQ(outcome.action, XDP_DROP);
}

// Behind the quoted piece of such a frame there is nothing that another one could have.
TEST_F(Program, packet_of_just_the_quoted_size_is_answered_when_it_is_too_big) {
  ForwardingTables tables = tables_of(snapshot_with(1, 1));
  tables.egress[1].outer_mtu = kQuotedSize;
  program_.install(tables);
  const Bytes frame = ethernet_ipv4(ipv4({}, tcp({.payload = Bytes(kQuotedSize - 40)})));
  ASSERT_EQ(frame.size(), 14u + kQuotedSize);
  const XdpOutcome outcome = program_.run(0, frame);
  EXPECT_EQ(verdict_of(outcome), "reply_too_big");
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_EQ(outcome.out.size(), 14u + kTooBigIpv4Growth + kQuotedSize);
}

uint64_t boottime_s() {
  timespec now = {};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec);
}

TEST(ForwardingProgram, first_packet_reads_the_clock_and_fills_the_budgets) {
  LoadedProgram program(small_options(), kXdpClockBoottime);
  program.install(tables_of(snapshot_with(1, 1)));
  const uint64_t before = boottime_s();
  program.run(0, frame_of_flow({}, kTcpSyn));
  const XdpWorker &worker = program.worker(0);
  EXPECT_GE(worker.now_s, before);
  EXPECT_LE(worker.now_s, boottime_s());
  for (const uint32_t budget : worker.adoption_budgets) EXPECT_EQ(budget, 10u * kAdoptionTablesPerMs);
  EXPECT_EQ(worker.displacement_budget, 10u * kDisplacementStepsPerMs);
  EXPECT_EQ(worker.icmp_reply_budget, +kIcmpReplyBurst);
}

}  // namespace
}  // namespace sluice
