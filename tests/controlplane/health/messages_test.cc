// The bytes that checks send and understand.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/health/probes/command_words.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/grpc_health.h"
#include "controlplane/health/probes/mqtt_packet.h"
#include "controlplane/health/probes/quic_version.h"
#include "controlplane/health/probes/sandbox.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using namespace std::string_literals;

constexpr QuicConnectionId kDestination = {1, 2, 3, 4, 5, 6, 7, 8};
constexpr QuicConnectionId kSource = {9, 9, 9, 9, 9, 9, 9, 9};

std::string negotiation() {
  // Flags, version 0, our source as destination, our destination as source, versions 1 and 0x6b3343cf.
  return "\x80\0\0\0\0"s + "\x08\x09\x09\x09\x09\x09\x09\x09\x09"s + "\x08\x01\x02\x03\x04\x05\x06\x07\x08"s +
         "\0\0\0\x01\x6b\x33\x43\xcf"s;
}

TEST(QuicVersion, the_probe_is_a_long_header_of_a_reserved_version_in_1200_bytes) {
  const std::string probe = quic_version_probe(kDestination, kSource);
  EXPECT_EQ(probe.size(), 1200u);
  EXPECT_EQ(probe.substr(0, 6), "\xc0\x1a\x2a\x3a\x4a\x08"s);
  EXPECT_EQ(probe.substr(14, 2), "\x08\x09"s);
}

TEST(QuicVersion, a_negotiation_lists_versions) {
  const auto versions = parse_quic_versions(negotiation(), kDestination, kSource);
  ASSERT_TRUE(versions.has_value());
  EXPECT_THAT(*versions, ElementsAre(1u, 0x6b3343cfu));
}

TEST(QuicVersion, what_is_no_answer_to_the_probe_is_none) {
  const std::string good = negotiation();
  for (size_t size = 0; size < good.size(); ++size) {
    const bool one_version = size == good.size() - 4;
    EXPECT_EQ(parse_quic_versions(good.substr(0, size), kDestination, kSource).has_value(), one_version)
        << size;
  }
  for (const size_t changed :
       {size_t{0}, size_t{1}, size_t{4}, size_t{5}, size_t{6}, size_t{14}, size_t{22}}) {
    std::string other = good;
    other[changed] = static_cast<char>(other[changed] ^ 0x80);
    EXPECT_FALSE(parse_quic_versions(other, kDestination, kSource).has_value()) << changed;
  }
}

TEST(CommandWords, placeholders_are_replaced_once) {
  const model::BackendKey key{"{backend}", "b{port}"};
  EXPECT_THAT(command_words({"/x", "{address}{port}", "{{pool}}", "{backend}{", "{a}"},
                            {.address = "::1", .l4_port = 80, .key = &key}),
              ElementsAre("/x", "::180", "{{backend}}", "b{port}{", "{a}"));
}

TEST(CommandWords, the_first_line_is_printable_and_short) {
  EXPECT_EQ(first_line("a \"b\"\r\nc"), "a \"b\"");
  EXPECT_EQ(first_line("\x1b[0m\xff"), "\\x1b[0m\\xff");
  EXPECT_EQ(first_line(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(first_line(std::string(201, 'x')), std::string(200, 'x') + "...");
  EXPECT_EQ(with_first_line("exit status 1", "why\n"), "exit status 1: why");
  EXPECT_EQ(with_first_line("exit status 1", "\nwhy"), "exit status 1");
}

TEST(Sandbox, the_exit_status_is_what_it_reported) {
  EXPECT_EQ(sandboxed_exit_status("{ \"child-pid\": 7 }\n{ \"exit-code\": 3 }\n"), 3);
  for (const std::string report :
       {"", "{ \"child-pid\": 7 }\n", "{ \"exit-code\"", "[1]\n{\"exit-code\": \"3\"}\n", "null\n"}) {
    EXPECT_EQ(sandboxed_exit_status(report), std::nullopt) << report;
  }
}

TEST(Sandbox, tells_a_command_that_is_missing_from_one_that_misses_something) {
  EXPECT_EQ(why_not_executed(127, "prlimit: failed to execute /x: No such file or directory\n"),
            "/x: No such file or directory\n");
  EXPECT_EQ(why_not_executed(127, "/bin/sh: 1: x: not found\n"), std::nullopt);
  EXPECT_EQ(why_not_executed(1, "prlimit: failed to execute /x: No such file or directory\n"), std::nullopt);
}

TEST(MqttPacket, connect_has_what_is_given) {
  EXPECT_EQ(mqtt_connect("", "", ""), "\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"s);
  EXPECT_EQ(mqtt_connect("c", "u", "pw"), "\x10\x14\0\x04MQTT\x04\xc2\0\x3c\0\x01\x63\0\x01u\0\x02pw"s);
  const std::string long_packet = mqtt_connect(std::string(200, 'x'), "", "");
  EXPECT_EQ(long_packet.substr(0, 3), "\x10\xd4\x01"s);
  EXPECT_EQ(long_packet.size(), 3u + 212);
}

TEST(MqttPacket, connack_tells_its_return_code) {
  EXPECT_EQ(parse_mqtt_connack("\x20\x02\0\0"s), 0);
  EXPECT_EQ(parse_mqtt_connack("\x20\x02\x01\x05"s), 5);
  EXPECT_EQ(mqtt_refusal_text(5), "not authorized");
  EXPECT_EQ(mqtt_refusal_text(77), "return code 77");
  EXPECT_FALSE(parse_mqtt_connack("\x20\x02\0"s).has_value());
  EXPECT_FALSE(parse_mqtt_connack("\x30\x02\0\0"s).has_value());
  EXPECT_FALSE(parse_mqtt_connack("\x20\x03\0\0"s).has_value());
}

TEST(GrpcHealth, request_is_a_frame_with_the_service) {
  EXPECT_EQ(grpc_health_request(""), "\0\0\0\0\0"s);
  EXPECT_EQ(grpc_health_request("a.B"), "\0\0\0\0\x05\x0a\x03"s + "a.B");
  EXPECT_EQ(grpc_health_request(std::string(200, 's')).substr(0, 8), "\0\0\0\0\xcb\x0a\xc8\x01"s);
}

TEST(GrpcHealth, response_tells_the_status) {
  EXPECT_EQ(parse_grpc_health_response("\0\0\0\0\x02\x08\x01"s), GrpcServingStatus::kServing);
  EXPECT_EQ(parse_grpc_health_response("\0\0\0\0\x02\x08\x02"s), GrpcServingStatus::kNotServing);
  EXPECT_EQ(parse_grpc_health_response("\0\0\0\0\0"s), GrpcServingStatus::kUnknown);
  // A field of a newer server beside it.
  EXPECT_EQ(parse_grpc_health_response("\0\0\0\0\x06\x12\x02hi\x08\x01"s), GrpcServingStatus::kServing);
}

TEST(GrpcHealth, what_is_no_response_is_none) {
  const std::string cases[] = {"",
                               "\0\0\0\0"s,
                               "\x01\0\0\0\x02\x08\x01"s,  // compressed
                               "\0\0\0\0\x03\x08\x01"s,    // cut
                               "\0\0\0\0\x02\x08\x01\0"s,  // more than the frame
                               "\0\0\0\0\x01\x08"s,        // without its value
                               "\0\0\0\0\x02\x12\x05"s,    // a text longer than the message
                               "\0\0\0\0\x01\x0b"s,        // a group
                               "\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"s};
  for (const std::string &body : cases)
    EXPECT_FALSE(parse_grpc_health_response(body).has_value()) << shown(body);
}

TEST(ExpectedBytes, are_shown_printable_and_short) {
  EXPECT_EQ(shown("+PONG\r\n"), "\"+PONG\\r\\n\"");
  EXPECT_EQ(shown("\0\x7f\"\\"s), "\"\\x00\\x7f\\\"\\\\\"");
  EXPECT_EQ(shown(std::string(100, 'a')), "\"" + std::string(64, 'a') + "...\"");
}

}  // namespace
}  // namespace sluice
