#include "controlplane/api/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/api/router.h"
#include "tests/controlplane/api/fixed_control.h"

namespace sluice::api {
namespace {

using model::Role;
using nlohmann::json;
using testing::HasSubstr;
using Query = std::map<std::string, std::string>;

Query flow(const Query &more = {}) {
  Query query = {{"client", "192.0.2.1"}, {"client_port", "40000"}, {"vip", "198.51.100.10"}, {"port", "80"}};
  for (const auto &[name, value] : more) query[name] = value;
  return query;
}

json fields_of(const Query &query) {
  const Result<json> fields = parse_explain_query(query);
  EXPECT_TRUE(fields.ok()) << fields.error().message;
  return fields.ok() ? fields.value() : json();
}

std::string error_of(const Query &query) {
  const Result<json> fields = parse_explain_query(query);
  return fields.ok() ? "" : fields.error().message;
}

TEST(ExplainQuery, tcp_flow_becomes_a_frame_of_its_headers) {
  const json fields = fields_of(flow({{"flags", "syn"}, {"worker", "3"}}));
  EXPECT_EQ(fields["frame"],
            "000000000000000000000000"
            "0800"
            "45000028"
            "00004000"
            "40060000"
            "c0000201"
            "c633640a"
            "9c400050"
            "0000000000000000"
            "5002"
            "000000000000");
  EXPECT_EQ(fields["length"], 54);
  EXPECT_EQ(fields["worker"], 3);
}

TEST(ExplainQuery, udp_flow_of_ipv6_has_the_lengths_of_the_whole_frame) {
  const json fields = fields_of({{"protocol", "udp"},
                                 {"client", "2001:db8::7"},
                                 {"client_port", "4000"},
                                 {"vip", "2001:db8::10"},
                                 {"port", "53"},
                                 {"length", "1400"}});
  EXPECT_EQ(fields["frame"],
            "000000000000000000000000"
            "86dd"
            "60000000"
            "0542"
            "1140"
            "20010db8000000000000000000000007"
            "20010db8000000000000000000000010"
            "0fa00035"
            "05420000");
  EXPECT_EQ(fields["length"], 1400);
}

TEST(ExplainQuery, packet_within_a_connection_has_ack_unless_flags_are_named) {
  const auto flags_byte = [](const Query &query) {
    return fields_of(query)["frame"].get<std::string>().substr(2 * (14 + 20 + 13), 2);
  };
  EXPECT_EQ(flags_byte(flow()), "10");
  EXPECT_EQ(flags_byte(flow({{"flags", "fin,ack"}})), "11");
  EXPECT_EQ(flags_byte(flow({{"flags", "rst,psh,urg"}})), "2c");
}

TEST(ExplainQuery, given_frame_is_passed_on_with_its_length) {
  EXPECT_EQ(fields_of({{"frame", "00fF"}}), json({{"frame", "00fF"}}));
  EXPECT_EQ(fields_of({{"frame", "00ff"}, {"length", "1500"}}), json({{"frame", "00ff"}, {"length", 1500u}}));
  EXPECT_EQ(fields_of({{"frame", std::string(2048, '0')}})["frame"], std::string(2048, '0'));
}

TEST(ExplainQuery, bad_parameters_are_named_with_their_values) {
  EXPECT_EQ(error_of({}), "query parameter client: \"\" is no IPv4 or IPv6 address");
  EXPECT_EQ(error_of(flow({{"client", "nope"}})),
            "query parameter client: \"nope\" is no IPv4 or IPv6 address");
  EXPECT_EQ(error_of(flow({{"port", "65536"}})),
            "query parameter port: \"65536\" is no port from 0 to 65535");
  EXPECT_EQ(error_of(flow({{"client_port", "-1"}})),
            "query parameter client_port: \"-1\" is no port from 0 to 65535");
  EXPECT_EQ(error_of(flow({{"client", "2001:db8::1"}})),
            "query parameters client and vip: \"2001:db8::1\" and \"198.51.100.10\" are of two families");
  EXPECT_EQ(error_of(flow({{"protocol", "sctp"}})),
            "query parameter protocol: \"sctp\" is no \"tcp\" or \"udp\"");
  EXPECT_EQ(error_of(flow({{"flags", "syn,,ack"}})),
            "query parameter flags: \"syn,,ack\" is no list of fin, syn, rst, psh, ack and urg");
  EXPECT_EQ(error_of(flow({{"protocol", "udp"}, {"flags", "syn"}})), "query parameter flags: UDP has none");
  EXPECT_EQ(error_of(flow({{"length", "53"}})),
            "query parameter length: \"53\" is no number from 54 to 65549");
  EXPECT_EQ(error_of(flow({{"length", "65550"}})),
            "query parameter length: \"65550\" is no number from 54 to 65549");
  EXPECT_EQ(error_of(flow({{"worker", "64"}})), "query parameter worker: \"64\" is no number from 0 to 63");
  EXPECT_EQ(error_of({{"frame", "00"}, {"vip", "192.0.2.1"}}),
            "query parameters frame and vip: give a frame, or what it is to be made of");
  for (const std::string &frame : {std::string("0"), std::string("0g"), std::string(2050, '0')})
    EXPECT_THAT(error_of({{"frame", frame}}),
                HasSubstr("query parameter frame: hex digits of at most 1024 whole"));
  EXPECT_EQ(error_of({{"frame", "0000"}, {"length", "1"}}),
            "query parameter length: \"1\" is no number from 2 to 65557");
}

class ExplainRoute : public testing::Test {
 protected:
  Response ask(const std::string &query, const model::Grant &grant = {Role::kViewer, {}}) {
    return handle({.method = "GET", .target = "/v1/explain?" + query, .caller = {"ci", "token", "", grant}},
                  control);
  }
  FixedControl control;
};

TEST_F(ExplainRoute, viewer_is_answered_what_the_dataplane_says) {
  const Response response = ask("frame=0011&length=100&worker=1");
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(json::parse(response.body)["verdict"], "forward_new");
  EXPECT_EQ(control.last_explained, json({{"frame", "0011"}, {"length", 100u}, {"worker", 1u}}));
  EXPECT_FALSE(response.change);  // nothing is changed: nothing for the audit log
}

TEST_F(ExplainRoute, bad_query_is_not_passed_on) {
  EXPECT_EQ(ask("frame=zz").status, 400u);
  EXPECT_EQ(ask("frame=00&colour=red").status, 400u);
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(ExplainRoute, refusal_and_absence_of_the_dataplane_are_told_apart) {
  EXPECT_EQ(ask("frame=0011&worker=7").status, 400u);
  control.dataplane_reachable = false;
  EXPECT_EQ(ask("frame=0011").status, 503u);
}

TEST_F(ExplainRoute, scoped_caller_learns_of_its_services_alone) {
  const model::Grant web{Role::kViewer, {{"web"}}};
  EXPECT_EQ(ask("frame=0011", web).status, 200u);
  const auto refused = [&] { return ask("frame=0011", {Role::kViewer, {{"dns"}}}); };
  const std::string of_another = refused().body;
  EXPECT_EQ(refused().status, 403u);
  EXPECT_THAT(of_another, testing::Not(HasSubstr("forward_new")));
  control.explained_service = nullptr;  // of no service: the answer is the same
  EXPECT_EQ(refused().body, of_another);
  EXPECT_EQ(ask("frame=0011", web).status, 403u);
}

}  // namespace
}  // namespace sluice::api
