#include "dataplane/server/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/abi/control_protocol.h"
#include "tests/server/explain_fixture.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using Json = nlohmann::json;

Bytes client_frame(uint8_t flags, const Ipv4Fields &fields = {}, size_t payload = 0) {
  return ethernet_ipv4(ipv4(fields, tcp({.flags = flags, .payload = Bytes(payload)})));
}

/// As standard_snapshot(), but all slots are of the other backend than `backend`, which has `state`.
SnapshotBuilder snapshot_without(uint32_t backend, BackendState state) {
  SnapshotBuilder builder;
  builder.add_backend("pool", "b1", "10.1.0.11");
  builder.add_backend("pool", "b2", "10.1.0.12");
  builder.set_state(backend, state);
  const uint32_t web = builder.add_service("web", builder.add_pool({3 - backend}));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  return builder;
}

/// Two workers and the table of a former one.
class Explain : public testing::Test {
 protected:
  explicit Explain(const SnapshotBuilder &builder = standard_snapshot()) : builder_(builder) {
    for (auto &tables : tables_) tables = std::make_unique<TestTables>(builder_);
    tables_[0]->set_peers({tables_[1].get(), tables_[2].get()});
    tables_[1]->set_peers({tables_[0].get(), tables_[2].get()});
    tables_[2]->set_peers({tables_[0].get(), tables_[1].get()});
  }

  /// Goes over to what the builder says now.
  void publish() {
    for (auto &tables : tables_) tables->use_snapshot(builder_);
  }

  Verdict decide(uint32_t worker, const Bytes &frame, uint32_t now_s = 1000) {
    return decide_frame(tables_[worker]->tables(), frame, now_s).verdict();
  }

  Json explain(const Bytes &frame, std::optional<uint32_t> worker = std::nullopt, uint32_t now_s = 1000) {
    return explain(ExplainRequest{frame, static_cast<uint32_t>(frame.size()), worker}, now_s);
  }

  Json explain(const ExplainRequest &request, uint32_t now_s = 1000) {
    const ForwardingTables forwarding = forwarding_tables(builder_, *tables_[0]);
    const LiveTables live =
        live_tables(&forwarding, {tables_[0].get(), tables_[1].get(), tables_[2].get()}, 2, now_s);
    const ExplainContext context = {live, in_force_since_s_,
                                    [](uint16_t backend) { return "hop " + std::to_string(backend); },
                                    [](uint16_t port) { return "port" + std::to_string(port); }};
    const std::vector<BucketArray> before = buckets();
    Result<Json> answer = sluice::explain(context, request);
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    expect_untouched(before);
    return answer.ok() ? std::move(answer).value() : Json();
  }

  static Json stage(const Json &answer, const std::string &name) {
    for (const Json &each : answer["stages"])
      if (each["stage"] == name) return each;
    return nullptr;
  }
  static std::string finding(const Json &answer, const std::string &name) {
    const Json found = stage(answer, name);
    return found.is_null() ? "(no such stage)" : found["finding"].get<std::string>();
  }

  std::vector<BucketArray> buckets() const {
    std::vector<BucketArray> all;
    for (const auto &tables : tables_) {
      all.push_back(tables->ipv4_buckets());
      all.push_back(tables->ipv6_buckets());
    }
    return all;
  }
  void expect_untouched(const std::vector<BucketArray> &before) const {
    const std::vector<BucketArray> after = buckets();
    for (size_t i = 0; i < before.size(); i++)
      EXPECT_EQ(std::memcmp(before[i].data(), after[i].data(), before[i].size() * sizeof(ConnectionBucket)),
                0);
  }

  SnapshotBuilder builder_;
  std::array<std::unique_ptr<TestTables>, 3> tables_;
  std::optional<uint64_t> in_force_since_s_ = 900;
};

class ExplainLeastConnection : public Explain {
 protected:
  ExplainLeastConnection() : Explain(standard_snapshot(kSchedulerLeastConnection)) {}
};

TEST_F(Explain, new_connection_is_scheduled_by_its_slot) {
  const Json answer = explain(client_frame(kTcpSyn));
  EXPECT_EQ(answer["verdict"], "forward_new");
  EXPECT_EQ(answer["class"], "forward");
  EXPECT_EQ(answer["service"], "web");
  EXPECT_EQ(finding(answer, "parse"), "IPv4, TCP 192.0.2.1:40000 to 198.51.100.10:80, SYN, 40 bytes, TTL 64");
  EXPECT_EQ(finding(answer, "service"), "TCP port 80 of VIP 198.51.100.10 is service web (maglev)");
  EXPECT_EQ(finding(answer, "connection"), "no table has an entry of it; worker 0 enters it anew");
  const Json slot = stage(answer, "slot");
  EXPECT_EQ(slot["slots"][0]["backend"], answer["backend"]);
  EXPECT_TRUE(slot["used"]);
  EXPECT_THAT(finding(answer, "backend"), AllOf(HasSubstr("(10.1.0.1"), HasSubstr("is up, weight 100")));
  EXPECT_EQ(finding(answer, "size"), "40 bytes and 20 of the outer header fit the MTU of 1500");
  EXPECT_THAT(finding(answer, "verdict"), StartsWith("forward_new: scheduled to a backend"));
}

TEST_F(Explain, changes_no_table_and_counts_nothing) {
  explain(client_frame(kTcpSyn));  // compares the buckets
  explain(client_frame(kTcpAck));
  EXPECT_EQ(tables_[0]->entries(), 0u);
  EXPECT_EQ(tables_[0]->worker.adoption_lookups, 0u);
  EXPECT_EQ(tables_[0]->counters(1).opened_connections + tables_[0]->counters(2).opened_connections, 0u);
}

TEST_F(Explain, established_connection_is_told_with_age_state_and_worker) {
  decide(1, client_frame(kTcpSyn), 1000);
  decide(1, client_frame(kTcpAck), 1001);
  const Json answer = explain(client_frame(kTcpAck), std::nullopt, 1008);
  EXPECT_EQ(answer["worker"], 1);
  EXPECT_EQ(answer["verdict"], "forward_established");
  const Json entry = stage(answer, "connection")["entries"][0];
  EXPECT_EQ(entry["table"], 1);
  EXPECT_EQ(entry["state"], "established");
  EXPECT_EQ(entry["age_s"], 7);
  EXPECT_EQ(entry["holds"], true);
  EXPECT_EQ(entry["expired"], false);
  EXPECT_EQ(entry["backend"], answer["backend"]);
  EXPECT_EQ(entry["scheduled"], "unknown");
  EXPECT_THAT(finding(answer, "connection"),
              StartsWith("worker 1's table has it: established, last seen 7 s ago"));
  EXPECT_EQ(stage(answer, "slot")["used"], false);
}

TEST_F(Explain, another_worker_copies_what_one_has) {
  decide(1, client_frame(kTcpSyn));
  const Json answer = explain(client_frame(kTcpAck), 0);
  EXPECT_EQ(answer["verdict"], "forward_adopted");
  EXPECT_THAT(finding(answer, "connection"),
              AllOf(HasSubstr("worker 1's table has it: embryonic"), HasSubstr("worker 0 copies it")));
  EXPECT_TRUE(stage(answer, "connection")["asks_other_workers"]);
}

TEST_F(Explain, entry_of_a_former_worker_is_found_and_named_so) {
  decide(2, client_frame(kTcpSyn));
  const Json answer = explain(client_frame(kTcpAck));
  EXPECT_EQ(answer["worker"], 0);
  EXPECT_EQ(answer["verdict"], "forward_adopted");
  EXPECT_EQ(stage(answer, "connection")["entries"][0]["has_worker"], false);
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("table 2, which has no worker any more,"));
}

TEST_F(Explain, closing_entry_does_not_hold_for_a_new_syn) {
  decide(0, client_frame(kTcpSyn));
  decide(0, client_frame(kTcpFin | kTcpAck));
  const Json answer = explain(client_frame(kTcpSyn));
  EXPECT_EQ(answer["verdict"], "forward_new");
  EXPECT_EQ(stage(answer, "connection")["entries"][0]["state"], "closing");
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("it is closing, and this SYN begins anew"));
}

TEST_F(Explain, timed_out_entry_does_not_hold_for_a_new_syn) {
  decide(0, client_frame(kTcpSyn));
  decide(0, client_frame(kTcpAck));
  const Json answer = explain(client_frame(kTcpSyn), std::nullopt, 2000);
  EXPECT_EQ(stage(answer, "connection")["entries"][0]["expired"], true);
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("it has timed out, and this begins anew"));
}

TEST_F(Explain, drained_backend_keeps_its_connection_and_gets_no_new_one) {
  decide(0, client_frame(kTcpSyn));
  decide(0, client_frame(kTcpAck));
  const std::string backend = explain(client_frame(kTcpAck))["backend"];
  const uint32_t drained = backend == "pool/b1" ? 1 : 2;
  builder_.set_state(drained, kBackendDraining);
  publish();
  const Json kept = explain(client_frame(kTcpAck));
  EXPECT_EQ(kept["verdict"], "forward_established");
  EXPECT_THAT(finding(kept, "backend"), HasSubstr(backend + " (10.1.0.1"));
  EXPECT_THAT(finding(kept, "backend"), HasSubstr("is draining"));
  EXPECT_EQ(stage(kept, "backend")["state"], "draining");
}

TEST_F(Explain, backend_past_its_drain_keeps_nothing) {
  decide(0, client_frame(kTcpSyn));
  const uint32_t chosen = explain(client_frame(kTcpAck))["backend"] == "pool/b1" ? 1 : 2;
  builder_ = snapshot_without(chosen, kBackendClosed);
  publish();
  const Json answer = explain(client_frame(kTcpAck));
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("its backend keeps no connections any more"));
  EXPECT_EQ(answer["backend"], chosen == 1 ? "pool/b2" : "pool/b1");
}

TEST_F(Explain, backend_that_is_down_keeps_tcp_and_loses_new_syns) {
  decide(0, client_frame(kTcpSyn));
  builder_.set_state(1, kBackendDown);
  builder_.set_state(2, kBackendDown);
  publish();
  EXPECT_EQ(explain(client_frame(kTcpAck))["verdict"], "forward_established");
  EXPECT_THAT(finding(explain(client_frame(kTcpSyn)), "connection"),
              HasSubstr("its backend is down, and this begins anew"));
}

TEST_F(Explain, entry_last_seen_before_the_snapshot_was_scheduled_before_it) {
  decide(0, client_frame(kTcpSyn), 1000);
  in_force_since_s_ = 1005;
  const Json answer = explain(client_frame(kTcpAck), std::nullopt, 1010);
  EXPECT_EQ(stage(answer, "connection")["entries"][0]["scheduled"], "before");
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("scheduled before snapshot 1 was in force"));
  in_force_since_s_ = 1001;  // too near to be certain
  EXPECT_EQ(
      stage(explain(client_frame(kTcpAck), std::nullopt, 1010), "connection")["entries"][0]["scheduled"],
      "unknown");
  in_force_since_s_.reset();
  EXPECT_EQ(
      stage(explain(client_frame(kTcpAck), std::nullopt, 1010), "connection")["entries"][0]["scheduled"],
      "unknown");
}

TEST_F(Explain, entry_of_another_backend_than_its_slot_names_was_scheduled_before) {
  decide(0, client_frame(kTcpSyn), 1000);
  const std::string chosen = explain(client_frame(kTcpAck))["backend"];
  builder_ = snapshot_without(chosen == "pool/b1" ? 1 : 2, kBackendUp);
  publish();
  const Json answer = explain(client_frame(kTcpAck), std::nullopt, 1000);
  EXPECT_EQ(answer["verdict"], "forward_established");
  EXPECT_EQ(answer["backend"], chosen);
  EXPECT_EQ(stage(answer, "connection")["entries"][0]["scheduled"], "before");
}

TEST_F(Explain, what_is_no_vip_is_the_kernels) {
  const Json answer = explain(client_frame(kTcpSyn, {.destination = "198.51.100.99"}));
  EXPECT_EQ(answer["verdict"], "pass_not_vip");
  EXPECT_EQ(answer["class"], "pass");
  EXPECT_EQ(answer["service"], nullptr);
  EXPECT_EQ(answer["backend"], nullptr);
  EXPECT_EQ(finding(answer, "service"), "198.51.100.99 is no VIP");
  EXPECT_TRUE(stage(answer, "connection").is_null());
}

TEST_F(Explain, vip_without_service_on_the_port_is_told_with_port_and_protocol) {
  const Bytes frame = ethernet_ipv4(ipv4({}, tcp({.destination_port = 81, .flags = kTcpSyn})));
  const Json answer = explain(frame);
  EXPECT_EQ(answer["verdict"], "pass_no_service");
  EXPECT_EQ(finding(answer, "service"), "198.51.100.10 is a VIP, but has no service on TCP port 81");
}

TEST_F(Explain, malformed_frame_is_told_by_its_verdict) {
  Bytes frame = client_frame(kTcpSyn);
  frame[14] = 0x42;  // a header of two words
  Json answer = explain(frame);
  EXPECT_EQ(answer["verdict"], "drop_ipv4_bad_header");
  EXPECT_THAT(finding(answer, "parse"), StartsWith("drop_ipv4_bad_header: IPv4 version, header length"));
  EXPECT_EQ(answer["stages"].size(), 2u);
  answer = explain(Bytes(5));
  EXPECT_EQ(answer["verdict"], "drop_ethernet_truncated");
  answer = explain(Bytes());
  EXPECT_EQ(answer["verdict"], "drop_ethernet_truncated");
}

TEST_F(Explain, malformed_transport_header_matters_only_at_a_vip) {
  Bytes frame = client_frame(kTcpSyn);
  frame[14 + 20 + 12] = 0x10;  // a TCP header of one word
  EXPECT_EQ(explain(frame)["verdict"], "drop_tcp_bad_header");
  EXPECT_THAT(finding(explain(frame), "service"), StartsWith("198.51.100.10 is a VIP; drop_tcp_bad_header"));
  Bytes elsewhere = client_frame(kTcpSyn, {.destination = "198.51.100.99"});
  elsewhere[14 + 20 + 12] = 0x10;
  EXPECT_EQ(explain(elsewhere)["verdict"], "pass_not_vip");
}

TEST_F(Explain, frame_of_which_the_first_bytes_are_given_is_measured_whole) {
  const Bytes frame = client_frame(kTcpAck, {}, 1441);
  const Bytes first(frame.begin(), frame.begin() + 100);
  const Json answer = explain(ExplainRequest{first, static_cast<uint32_t>(frame.size()), std::nullopt});
  EXPECT_EQ(stage(answer, "parse")["bytes"], 1481);
  EXPECT_THAT(finding(answer, "parse"), HasSubstr("(the first 100 of its 1495 bytes were given)"));
  EXPECT_EQ(answer["verdict"], explain(frame)["verdict"]);
}

TEST_F(Explain, packet_that_does_not_fit_is_answered_or_dropped) {
  Json answer = explain(client_frame(kTcpAck, {.fragment = 0x4000}, 1441));
  EXPECT_EQ(answer["verdict"], "reply_too_big");
  EXPECT_EQ(stage(answer, "size")["fits"], false);
  EXPECT_THAT(finding(answer, "size"),
              AllOf(HasSubstr("1481 bytes and 20 of the outer header are more than the MTU of 1500"),
                    HasSubstr("the client is told to send at most 1480")));
  answer = explain(client_frame(kTcpAck, {.fragment = 0}, 1441));
  EXPECT_EQ(answer["verdict"], "drop_too_big");
  EXPECT_THAT(finding(answer, "size"), HasSubstr("and nobody is told"));
}

TEST_F(Explain, last_hop_ends_here) {
  const Json answer = explain(client_frame(kTcpSyn, {.ttl = 1}));
  EXPECT_EQ(answer["verdict"], "drop_hop_limit");
  EXPECT_EQ(finding(answer, "size"), "its TTL or hop limit of 1 ends here");
}

TEST_F(Explain, next_hop_has_addresses_or_a_reason) {
  Json answer = explain(client_frame(kTcpSyn));
  EXPECT_THAT(
      finding(answer, "next_hop"),
      AllOf(StartsWith("by port port0 via hop "),
            HasSubstr("to 02:00:00:00:0b:01 from 02:00:00:00:0a:01; outer IPv4 10.0.0.1 to 10.1.0.1")));
  for (const uint32_t backend : {1u, 2u})
    tables_[0]->egress(backend).flags &= static_cast<uint8_t>(~kEgressReady);
  answer = explain(client_frame(kTcpSyn));
  EXPECT_EQ(answer["verdict"], "drop_no_next_hop");
  EXPECT_THAT(finding(answer, "next_hop"), StartsWith("hop "));
  EXPECT_EQ(stage(answer, "next_hop")["ready"], false);
  EXPECT_EQ(finding(answer, "size"), "not looked at: there is no way to the backend");
}

TEST_F(Explain, service_without_slots_says_so) {
  builder_.service(0).slot_count = 0;
  publish();
  const Json answer = explain(client_frame(kTcpSyn));
  EXPECT_EQ(answer["verdict"], "drop_no_backend");
  EXPECT_EQ(finding(answer, "slot"), "the service has no slots: no backend takes new connections");
  EXPECT_TRUE(stage(answer, "backend").is_null());
}

TEST_F(Explain, health_check_is_told_with_its_pin) {
  builder_.add_check_source("10.77.0.2", {2, 0});
  publish();
  const auto from = [](uint16_t l4_port) {
    return ethernet_ipv4(ipv4({.source = "10.77.0.2"}, tcp({.source_port = l4_port, .flags = kTcpSyn})));
  };
  Json answer = explain(from(kFirstCheckPort));
  EXPECT_EQ(answer["verdict"], "forward_check");
  EXPECT_EQ(answer["backend"], "pool/b2");
  EXPECT_THAT(finding(answer, "check"), HasSubstr("pinned to pool/b2"));
  EXPECT_EQ(stage(answer, "slot")["used"], false);
  answer = explain(from(kFirstCheckPort + kCheckPortsPerPin));
  EXPECT_EQ(answer["verdict"], "drop_check");
  EXPECT_THAT(finding(answer, "check"), HasSubstr("of which no backend has this port now"));
  EXPECT_THAT(finding(explain(client_frame(kTcpSyn)), "check"), HasSubstr("is no source of health checks"));
}

TEST_F(Explain, icmp_error_follows_the_connection_that_it_is_about) {
  decide(1, client_frame(kTcpSyn));
  const Bytes quoted = ipv4({.source = "198.51.100.10", .destination = "192.0.2.1"},
                            tcp({.source_port = 80, .destination_port = 40000, .flags = kTcpAck}));
  const Json answer = explain(ethernet_ipv4(ipv4({.source = "203.0.113.1"}, icmp(3, 1, quoted))), 0);
  EXPECT_EQ(answer["verdict"], "forward_icmp_error");
  EXPECT_THAT(finding(answer, "parse"),
              HasSubstr("ICMP error about TCP 192.0.2.1:40000 to 198.51.100.10:80"));
  EXPECT_EQ(answer["backend"], stage(answer, "connection")["entries"][0]["backend"]);
}

TEST_F(Explain, ipv6_and_udp_are_explained_alike) {
  const Bytes frame = ethernet_ipv6(ipv6({}, udp()));
  decide(0, frame, 1000);
  decide(0, frame, 1000);
  const Json answer = explain(frame, std::nullopt, 1002);
  EXPECT_EQ(answer["verdict"], "forward_established");
  EXPECT_EQ(answer["service"], "dns");
  EXPECT_THAT(finding(answer, "parse"), StartsWith("IPv6, UDP [2001:db8:c::1]:"));
  EXPECT_THAT(finding(answer, "connection"), HasSubstr("established, last seen 2 s ago (timeout 30 s)"));
}

TEST_F(ExplainLeastConnection, compares_two_slots_by_active_connections) {
  tables_[0]->counters(1).active_connections = 7;
  const Json answer = explain(client_frame(kTcpSyn));
  EXPECT_EQ(answer["verdict"], "forward_new");
  const Json slots = stage(answer, "slot")["slots"];
  ASSERT_EQ(slots.size(), 2u);
  for (const Json &slot : slots) EXPECT_EQ(slot["active_connections"], slot["backend"] == "pool/b1" ? 7 : 0);
  EXPECT_THAT(finding(answer, "slot"), AllOf(StartsWith("its hash names slots "), HasSubstr(" active")));
}

TEST_F(Explain, before_the_first_snapshot_everything_is_the_kernels) {
  LiveTables live = live_tables(nullptr, {tables_[0].get()}, 1, 1000);
  const ExplainContext context = {live, std::nullopt, {}, {}};
  const Result<Json> answer = sluice::explain(context, {client_frame(kTcpSyn), 54, std::nullopt});
  EXPECT_EQ(answer.value()["verdict"], "pass_no_snapshot");
}

TEST_F(Explain, worker_that_is_none_is_refused_by_number) {
  LiveTables live = live_tables(nullptr, {tables_[0].get(), tables_[1].get()}, 2, 1000);
  const Result<Json> answer = sluice::explain({live, std::nullopt, {}, {}}, {{}, 0, 2});
  EXPECT_EQ(answer.error().message, "worker: 2 is none; there are 0 to 1");
}

std::string refusal(const Json &message) {
  const Result<ExplainRequest> request = parse_explain_request(message);
  return request.ok() ? "" : request.error().message;
}

TEST(ExplainRequest, fields_are_read) {
  const Result<ExplainRequest> request =
      parse_explain_request({{"frame", "00fFA5"}, {"length", 100u}, {"worker", 3u}});
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request.value().frame, (std::vector<uint8_t>{0x00, 0xff, 0xa5}));
  EXPECT_EQ(request.value().length, 100u);
  EXPECT_EQ(request.value().worker, 3u);
  EXPECT_EQ(parse_explain_request({{"frame", "0011"}}).value().length, 2u);
}

TEST(ExplainRequest, bad_fields_are_named) {
  EXPECT_EQ(refusal(Json::object()), "frame: is missing, or no string");
  EXPECT_EQ(refusal({{"frame", 5}}), "frame: is missing, or no string");
  EXPECT_EQ(refusal({{"frame", "123"}}), "frame: 3 hex digits are no whole bytes");
  EXPECT_EQ(refusal({{"frame", "00zz"}}), "frame: no hex digits at byte 1");
  EXPECT_EQ(refusal({{"frame", std::string(2050, '0')}}),
            "frame: 1025 bytes; its first 1024 are enough, and its length in \"length\"");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"length", 1u}}), "length: not a number from 2 to 65557");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"length", 65558u}}), "length: not a number from 2 to 65557");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"length", -1}}), "length: not a number from 2 to 65557");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"length", "9"}}), "length: not a number from 2 to 65557");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"worker", 64u}}), "worker: not a number from 0 to 63");
  EXPECT_EQ(refusal({{"frame", "0011"}, {"worker", 1e300}}), "worker: not a number from 0 to 63");
}

}  // namespace
}  // namespace sluice
