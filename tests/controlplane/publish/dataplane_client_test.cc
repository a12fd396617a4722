#include "controlplane/publish/dataplane_client.h"

#include <algorithm>
#include <future>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "controlplane/publish/sealed_memfd.h"
#include "tests/controlplane/publish/scripted_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

constexpr auto kPatience = 10s;  // answers come at once; this bounds a hanging test

std::span<const std::byte> as_bytes(const std::string &text) { return std::as_bytes(std::span(text)); }

ScriptedAnswer ok_to(const json &request, json fields = json::object()) {
  fields.update({{"protocol", 1}, {"id", request["id"]}, {"ok", true}});
  return {fields.dump(), {}};
}

std::string connect_error(const json &hello) {
  const ScriptedServer server("hello", {hello.dump(), {}});
  const auto client = DataplaneClient::connect(server.path(), kPatience);
  return client.ok() ? "no error" : client.error().message;
}

TEST(DataplaneClient, hello_tells_engine_version_and_revision) {
  const ScriptedServer server("hello", {good_hello().dump(), {}});
  const auto client = DataplaneClient::connect(server.path(), kPatience);
  ASSERT_TRUE(client.ok()) << client.error().message;
  EXPECT_EQ(client.value().hello().engine, "dpdk");
  EXPECT_EQ(client.value().hello().version, "0.1.0");
  EXPECT_EQ(client.value().hello().revision, 7u);
}

TEST(DataplaneClient, other_versions_are_refused_with_both_named) {
  json hello = good_hello();
  hello["protocol"] = 2;
  EXPECT_THAT(connect_error(hello), HasSubstr("speaks protocol 2, this sluiced speaks 1"));
  for (const char *records : {"snapshot", "connections", "counters"}) {
    hello = good_hello();
    hello["abi"][records] = 9;
    EXPECT_THAT(connect_error(hello),
                HasSubstr("version 9 of the " + std::string(records) + " records, this sluiced"));
    hello["abi"].erase(records);
    EXPECT_THAT(connect_error(hello), HasSubstr("version (none) of the " + std::string(records)));
  }
  hello = good_hello();
  hello.erase("abi");
  EXPECT_THAT(connect_error(hello), HasSubstr("no \"abi\" versions"));
}

TEST(DataplaneClient, refusal_before_the_request_was_read_is_told) {
  EXPECT_THAT(
      connect_error({{"protocol", 1}, {"id", 0}, {"ok", false}, {"error", "64 clients are connected"}}),
      HasSubstr("dataplane refused hello: 64 clients are connected"));
}

TEST(DataplaneClient, nobody_listening_is_an_error) {
  const auto client = DataplaneClient::connect("/nonexistent/dataplane.sock", kPatience);
  ASSERT_FALSE(client.ok());
  EXPECT_THAT(client.error().message,
              HasSubstr("\"/nonexistent/dataplane.sock\": is sluice-dataplane running?"));
  EXPECT_FALSE(DataplaneClient::connect(std::string(200, 'x'), kPatience).ok());
  EXPECT_FALSE(DataplaneClient::connect("", kPatience).ok());
}

TEST(DataplaneClient, publish_passes_the_bytes_sealed) {
  std::string received;
  int seals = 0;
  bool can_write = true;
  const ScriptedServer server(
      "publish", {good_hello().dump(), {}}, [&](const json &request, const FileDescriptor &memfd) {
        EXPECT_EQ(request["request"], "publish");
        received.resize(100);
        received.resize(static_cast<size_t>(::pread(memfd.get(), received.data(), received.size(), 0)));
        seals = fcntl(memfd.get(), F_GET_SEALS);
        can_write = ::pwrite(memfd.get(), "x", 1, 0) == 1;
        return ok_to(request, {{"revision", 8}});
      });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  const auto revision = client.publish(as_bytes("the snapshot"));
  ASSERT_TRUE(revision.ok()) << revision.error().message;
  EXPECT_EQ(revision.value().revision, 8u);
  EXPECT_EQ(revision.value().storage_problem, "");
  EXPECT_EQ(received, "the snapshot");
  EXPECT_EQ(seals, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_FALSE(can_write);
}

TEST(DataplaneClient, a_snapshot_that_is_not_on_the_dataplanes_disk_is_told_with_the_reason) {
  EXPECT_EQ(storage_problem({{"revision", 8u}, {"stored", false}, {"warning", "disk full"}}), "disk full");
  EXPECT_EQ(storage_problem({{"revision", 8u}, {"stored", false}}), "it does not say why");
  EXPECT_EQ(storage_problem({{"revision", 8u}, {"stored", true}}), "");
  EXPECT_EQ(storage_problem({{"revision", 0u}, {"stored", false}}), "");  // there is nothing to store
  EXPECT_EQ(storage_problem({{"revision", 8u}}), "");
}

TEST(DataplaneClient, refused_publication_names_the_reason_and_keeps_the_connection) {
  const ScriptedServer server(
      "refuse", {good_hello().dump(), {}}, [](const json &request, const FileDescriptor &) {
        if (request["request"] == "status") return ok_to(request, {{"ports", json::array()}});
        return ScriptedAnswer{
            json{{"protocol", 1}, {"id", request["id"]}, {"ok", false}, {"error", "checksum"}}.dump(), {}};
      });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  const auto revision = client.publish(as_bytes("bad"));
  ASSERT_FALSE(revision.ok());
  EXPECT_EQ(revision.error().message, "dataplane refused publish: checksum");
  EXPECT_TRUE(client.connected());
  const auto status = client.status();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status.value(), json({{"ports", json::array()}}));
}

TEST(DataplaneClient, explain_passes_its_fields_and_answers_those_of_the_dataplane) {
  const ScriptedServer server(
      "explain", {good_hello().dump(), {}}, [](const json &request, const FileDescriptor &) {
        return ok_to(request, {{"asked", {request["request"], request["frame"], request["length"]}}});
      });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  // Nor can a field stand in for the envelope's.
  const auto explained = client.explain({{"frame", "0011"}, {"length", 100}, {"request", "publish"}});
  ASSERT_TRUE(explained.ok()) << explained.error().message;
  EXPECT_EQ(explained.value(), json({{"asked", {"explain", "0011", 100}}}));
}

TEST(DataplaneClient, snapshot_in_force_is_copied) {
  const FileDescriptor memfd = make_sealed_memfd(as_bytes("in force")).value();
  uint64_t revision = 3;
  const ScriptedServer server("snapshot", {good_hello().dump(), {}},
                              [&](const json &request, const FileDescriptor &) {
                                ScriptedAnswer answer = ok_to(request, {{"revision", revision}});
                                if (revision > 0) answer.descriptors = {memfd.get()};
                                return answer;
                              });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  const auto snapshot = client.snapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  ASSERT_TRUE(snapshot.value());
  EXPECT_TRUE(std::ranges::equal(*snapshot.value(), as_bytes("in force")));
  revision = 0;
  EXPECT_EQ(client.snapshot().value(), std::nullopt);
}

// Each descriptor that is no region or snapshot: the call fails, the connection stays.
TEST(DataplaneClient, peers_descriptors_are_not_trusted) {
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  const FileDescriptor reading(pipes[0]);
  const FileDescriptor writing(pipes[1]);
  const FileDescriptor empty = make_sealed_memfd({}).value();
  const FileDescriptor small = make_sealed_memfd(as_bytes("small")).value();
  const FileDescriptor device(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  std::vector<int> passed;
  const ScriptedServer server("descriptors", {good_hello().dump(), {}},
                              [&](const json &request, const FileDescriptor &) {
                                ScriptedAnswer answer = ok_to(request, {{"revision", 1}});
                                answer.descriptors = passed;
                                return answer;
                              });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  for (const auto &descriptors :
       std::vector<std::vector<int>>{{}, {reading.get()}, {empty.get()}, {small.get()}, {device.get()}}) {
    passed = descriptors;
    EXPECT_FALSE(client.counters().ok());
    EXPECT_FALSE(client.connections().ok());
    if (descriptors != std::vector{small.get()}) {
      EXPECT_FALSE(client.snapshot().ok());
    }
    EXPECT_TRUE(client.connected());
  }
}

TEST(DataplaneClient, more_descriptors_than_one_end_the_connection) {
  const FileDescriptor memfd = make_sealed_memfd(as_bytes("x")).value();
  const ScriptedServer server("many", {good_hello().dump(), {}},
                              [&](const json &request, const FileDescriptor &) {
                                ScriptedAnswer answer = ok_to(request, {{"revision", 1}});
                                answer.descriptors.assign(20, memfd.get());
                                return answer;
                              });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  EXPECT_FALSE(client.snapshot().ok());
  EXPECT_FALSE(client.connected());
}

// Answers that break the protocol: the connection is of no use any more.
TEST(DataplaneClient, answers_that_are_not_understood_end_the_connection) {
  const std::vector<std::string> answers = {"",
                                            "not json",
                                            "[]",
                                            "{}",
                                            R"({"protocol":1,"id":2})",
                                            R"({"protocol":1,"id":2,"ok":"yes"})",
                                            R"({"protocol":"1","id":2,"ok":true})",
                                            R"({"protocol":1,"id":99,"ok":true})",
                                            R"({"protocol":1,"id":-2,"ok":true})",
                                            std::string(kControlMessageMaxSize + 1, ' ')};
  for (const std::string &text : answers) {
    const ScriptedServer server("garbage", {good_hello().dump(), {}},
                                [&](const json &, const FileDescriptor &) {
                                  return ScriptedAnswer{text, {}};
                                });
    auto client = DataplaneClient::connect(server.path(), kPatience).value();
    const auto status = client.status();
    ASSERT_FALSE(status.ok()) << text.substr(0, 40);
    EXPECT_THAT(status.error().message, HasSubstr("connection lost")) << text.substr(0, 40);
    EXPECT_FALSE(client.connected());
    EXPECT_THAT(client.status().error().message, HasSubstr("not connected; connect anew"));
  }
}

TEST(DataplaneClient, fields_of_other_types_are_errors_and_no_exceptions) {
  const ScriptedServer server("types", {good_hello().dump(), {}},
                              [&](const json &request, const FileDescriptor &) {
                                return ok_to(request, {{"revision", "eight"}});
                              });
  auto client = DataplaneClient::connect(server.path(), kPatience).value();
  EXPECT_THAT(client.publish(as_bytes("x")).error().message, HasSubstr("names no revision"));
}

TEST(DataplaneClient, silence_ends_the_connection_at_the_deadline) {
  std::promise<void> finished;
  const ScriptedServer server("silence", {good_hello().dump(), {}},
                              [done = finished.get_future().share()](const json &, const FileDescriptor &) {
                                done.wait();
                                return ScriptedAnswer{};
                              });
  auto client = DataplaneClient::connect(server.path(), 50ms).value();
  const auto status = client.status();
  finished.set_value();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("no answer within 50 ms"));
  EXPECT_FALSE(client.connected());
}

}  // namespace
}  // namespace sluice
