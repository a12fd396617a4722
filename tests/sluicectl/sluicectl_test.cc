// sluicectl as a process, against a running sluiced.
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/controlplane/health/loopback_server.h"
#include "tests/controlplane/sluiced/daemons.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Sluicectl : public Daemons {
 protected:
  void SetUp() override {
    configure(config_text("[{name: b1, address: 127.0.0.1}, {name: b2, address: \"::1\", drain: true}]"));
  }
};

TEST_F(Sluicectl, every_command_has_help_with_an_example) {
  for (const char *command : {"status", "services", "backends", "connections", "counters", "explain", "drain",
                              "undrain", "maintenance", "check-config", "reload"}) {
    const Finished finished = ctl({command, "--help"});
    EXPECT_EQ(finished.exit_code, 0) << command;
    EXPECT_THAT(finished.out, HasSubstr(std::string("  sluicectl ") + command)) << command;
  }
  EXPECT_THAT(ctl({"--help"}).out, HasSubstr("4 sluiced is unreachable"));
  EXPECT_THAT(ctl({"--version"}).out, StartsWith("sluicectl "));
}

TEST_F(Sluicectl, wrong_usage_exits_with_2) {
  EXPECT_EQ(ctl({}).exit_code, 2);
  EXPECT_EQ(ctl({"dance"}).exit_code, 2);
  EXPECT_EQ(ctl({"status", "-o", "xml"}).exit_code, 2);
  EXPECT_EQ(ctl({"drain"}).exit_code, 2);
  for (const char *name : {"b1", "/b1", "web/"}) {
    const Finished finished = ctl({"drain", name});
    EXPECT_EQ(finished.exit_code, 2) << name;
    EXPECT_THAT(finished.err, HasSubstr("POOL/BACKEND"));
  }
  EXPECT_EQ(ctl({"check-config", path("missing.yaml")}).exit_code, 2);
}

TEST_F(Sluicectl, an_unreachable_daemon_exits_with_4_and_says_what_to_do) {
  for (const char *command : {"status", "reload", "counters"}) {
    const Finished finished = ctl({command});
    EXPECT_EQ(finished.exit_code, 4);
    EXPECT_THAT(finished.err, HasSubstr(path("api.sock").native()));
    EXPECT_THAT(finished.err, HasSubstr("is it running"));
    EXPECT_EQ(finished.out, "");
  }
}

TEST_F(Sluicectl, drains_with_a_deadline_and_waits_for_it) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  const Finished finished = ctl({"drain", "web/b1", "--deadline", "2s", "--wait"});  // it has a connection
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.err, HasSubstr("web/b1: connections left: 1, given up in"));
  EXPECT_THAT(finished.err, HasSubstr("the deadline has passed"));
  EXPECT_THAT(finished.out, HasSubstr("done: in force"));
  EXPECT_EQ(state_of("b1"), "drained");
  EXPECT_EQ(ctl({"drain", "web/b1", "--deadline", "2s"}).exit_code, 0);
  EXPECT_EQ(ctl({"drain", "web/b1", "--deadline", "none"}).exit_code, 0);
  EXPECT_THAT(ctl({"backends"}).out, testing::Not(HasSubstr("given up")));
  for (const char *deadline : {"0s", "ten", "10", "-1s", "nonesuch"}) {
    const Finished wrong = ctl({"drain", "web/b1", "--deadline", deadline});
    EXPECT_EQ(wrong.exit_code, 2) << deadline;
    EXPECT_THAT(wrong.err, HasSubstr("--deadline")) << deadline;
  }
}

TEST_F(Sluicectl, a_wait_ends_when_somebody_ends_the_drain) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  Finished finished;
  std::thread waits([&] { finished = ctl({"drain", "web/b1", "--wait"}); });
  EXPECT_TRUE(eventually([this] { return state_of("b1") == "draining"; }));
  EXPECT_EQ(ctl({"undrain", "web/b1"}).exit_code, 0);
  waits.join();
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("no longer being drained"));
}

TEST_F(Sluicectl, makes_tokens_without_asking_anybody) {
  const std::string file = path("tokens");
  const Finished shown =
      ctl({"token", "create", "--name", "ci", "--role", "operator", "--services", "web,dns"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_THAT(shown.out, testing::MatchesRegex("sluice_[A-Za-z0-9_-]{43}\n"));
  EXPECT_THAT(shown.err, HasSubstr("- {name: ci, role: operator, services: [web, dns], expires: \"20"));
  EXPECT_THAT(shown.err, Not(HasSubstr(shown.out.substr(0, 20))));
  for (const char *name : {"a", "b"}) {
    const Finished added = ctl({"-o", "json", "token", "create", "--name", name, "--role", "viewer",
                                "--expires", "0d", "--file", file});
    EXPECT_EQ(added.exit_code, 0);
    EXPECT_THAT(read_text(file), HasSubstr(json::parse(added.out)["line"].get<std::string>()));
    EXPECT_THAT(read_text(file), Not(HasSubstr(json::parse(added.out)["token"].get<std::string>())));
  }
  EXPECT_THAT(read_text(file), Not(HasSubstr("expires")));
  for (const std::vector<std::string> &wrong : {std::vector<std::string>{"--name", "a b", "--role", "viewer"},
                                                {"--name", "a"},
                                                {"--name", "a", "--role", "king"},
                                                {"--name", "a", "--role", "admin", "--services", "web"},
                                                {"--name", "a", "--role", "viewer", "--expires", "90"},
                                                {"--name", "a", "--role", "viewer", "--services", "a,,b"}}) {
    std::vector<std::string> arguments = {"token", "create"};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(ctl(arguments).exit_code, 2) << wrong.back();
  }
}

TEST_F(Sluicectl, puts_in_maintenance_and_ends_it) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_EQ(ctl({"maintenance", "web/b1"}).exit_code, 0);
  EXPECT_EQ(state_of("b1"), "maintenance");
  EXPECT_THAT(ctl({"status"}).out, HasSubstr("1 maintenance"));
  const Finished wrong = ctl({"undrain", "web/b1"});
  EXPECT_EQ(wrong.exit_code, 6);
  EXPECT_THAT(wrong.err, HasSubstr("sluicectl maintenance --end web/b1"));
  EXPECT_EQ(ctl({"maintenance", "--end", "--wait", "web/b1"}).exit_code, 2);
  EXPECT_EQ(ctl({"maintenance", "--end", "web/b1"}).exit_code, 0);
  EXPECT_EQ(state_of("b1"), "up");
  EXPECT_EQ(query({"maintenance", "--end", "web/b1"})["result"], "unchanged");
}

TEST_F(Sluicectl, explains_a_connection_and_a_frame_and_exits_with_0_whatever_the_verdict) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  const json explained = query({"explain", "tcp", "192.0.2.1:40000", "198.51.100.10:80", "--syn"});
  EXPECT_EQ(explained["verdict"], "drop_no_next_hop");  // it has no ports
  EXPECT_EQ(explained["service"], "web");
  EXPECT_EQ(explained["backend"], "web/b1");
  EXPECT_EQ(explained["workers"], 2);
  const Finished shown = ctl({"explain", "tcp", "192.0.2.1:40000", "198.51.100.10:80", "--worker", "1"});
  EXPECT_THAT(shown.out,
              StartsWith("drop_no_next_hop, backend web/b1, service web  (packetless, worker 1 of 2"));
  EXPECT_THAT(shown.out,
              HasSubstr("\nparse       IPv4, TCP 192.0.2.1:40000 to 198.51.100.10:80, ACK, 40 bytes"));
  EXPECT_EQ(query({"explain", "tcp", "[2001:db8::7]:5", "[2001:db8:9::9]:80"})["verdict"], "pass_not_vip");
  EXPECT_EQ(query({"explain", "--frame", "02 00:00 00 00 01 02 00 00 00 00 02 08 06"})["verdict"],
            "pass_not_ip");
  EXPECT_EQ(query({"explain", "--frame", std::string(4000, '0')})["verdict"], "pass_not_ip");
}

TEST_F(Sluicectl, explains_a_packet_of_a_capture) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  // pcap's header (its magic number, version 2.4, 65,535 bytes at most, Ethernet), and a record: 14 bytes
  // of 60.
  const std::string header("\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0", 24);
  const std::string record("\0\0\0\0\0\0\0\0\x0e\0\0\0\x3c\0\0\0", 16);
  const std::string arp("\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\x06", 14);
  write_text(path("good.pcap"), header + record + arp);
  EXPECT_EQ(query({"explain", "--pcap", path("good.pcap")})["verdict"], "pass_not_ip");
  const auto error = [this](const std::vector<std::string> &more) {
    std::vector<std::string> arguments = {"explain", "--pcap"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished finished = ctl(arguments);
    EXPECT_EQ(finished.exit_code, 2);
    return finished.err;
  };
  EXPECT_THAT(error({path("good.pcap"), "--packet", "2"}), HasSubstr("has 1 packets, none of number 2"));
  EXPECT_THAT(error({path("good.pcap"), "--length", "60"}), HasSubstr("--length"));
  EXPECT_THAT(error({path("missing.pcap")}), HasSubstr("cannot read a capture from"));
  write_text(path("cut.pcap"), header + record + arp.substr(5));
  EXPECT_THAT(error({path("cut.pcap")}), HasSubstr("cannot read packet 1 of"));
  std::string raw = header + record + arp;
  raw[20] = 101;  // DLT_RAW
  write_text(path("raw.pcap"), raw);
  EXPECT_THAT(error({path("raw.pcap")}), HasSubstr("not Ethernet"));
  write_text(path("noise.pcap"), "this is no capture");
  EXPECT_THAT(error({path("noise.pcap")}), HasSubstr("cannot read a capture from"));
}

TEST_F(Sluicectl, explain_is_told_what_packet_in_one_way) {
  for (const std::vector<std::string> &wrong :
       {std::vector<std::string>{},
        {"tcp"},
        {"tcp", "192.0.2.1:1"},
        {"icmp", "192.0.2.1:1", "198.51.100.10:80"},
        {"tcp", "192.0.2.1", "198.51.100.10:80"},
        {"tcp", "2001:db8::7:80", "[2001:db8::10]:80"},
        {"tcp", "192.0.2.1:1", "198.51.100.10:80", "--frame", "00"},
        {"tcp", "192.0.2.1:1", "198.51.100.10:80", "--syn", "--flags", "ack"},
        {"--frame", "00", "--pcap", "x"},
        {"--frame", "00", "--syn"}}) {
    std::vector<std::string> arguments = {"explain"};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(ctl(arguments).exit_code, 2) << json(wrong);
  }
  EXPECT_EQ(ctl({"explain", "--frame", "00"}).exit_code, 4);
}

TEST_F(Sluicectl, unknown_names_exit_with_3) {
  start_sluiced();
  const Finished finished = ctl({"drain", "web/b99"});
  EXPECT_EQ(finished.exit_code, 3);
  EXPECT_THAT(finished.err, HasSubstr("b99"));
  EXPECT_EQ(ctl({"undrain", "nope/b1"}).exit_code, 3);
  EXPECT_EQ(ctl({"services", "nope"}).exit_code, 3);
}

TEST_F(Sluicectl, unknown_names_of_a_filter_exit_with_3) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_EQ(ctl({"backends", "--pool", "nope"}).exit_code, 3);
  EXPECT_EQ(ctl({"connections", "--service", "nope"}).exit_code, 3);
  EXPECT_EQ(ctl({"connections", "--backend", "web/nope"}).exit_code, 3);
  EXPECT_EQ(ctl({"connections", "--backend", "nope"}).exit_code, 3);
  EXPECT_EQ(query({"connections", "--backend", "web/b1"})["matched"], 1);
  EXPECT_EQ(query({"connections", "--backend", "b1"})["matched"], 1);
  EXPECT_EQ(query({"connections", "--backend", "web/b2"})["matched"], 0);
  // What is no longer configured, but has connections, is known.
  configure(config_text("[{name: b2, address: \"::1\"}]"));
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  EXPECT_EQ(query({"connections", "--backend", "web/b1"})["matched"], 1);
}

TEST_F(Sluicectl, a_change_that_waits_for_the_dataplane_exits_with_7) {
  start_sluiced();
  for (int i = 0; i < 2; i++) {  // the second time it is drained already, and still not in force
    const Finished drain = ctl({"drain", "web/b1"});
    EXPECT_EQ(drain.exit_code, 7);
    EXPECT_THAT(drain.out, StartsWith("pending: "));
    EXPECT_THAT(drain.out, HasSubstr("dataplane unreachable"));
  }
  EXPECT_EQ(ctl({"reload"}).exit_code, 7);
  EXPECT_EQ(ctl({"undrain", "web/b1"}).exit_code, 7);
  const Finished as_json = ctl({"-o", "json", "drain", "web/b1"});
  EXPECT_EQ(as_json.exit_code, 7);
  EXPECT_EQ(json::parse(as_json.out)["result"], "pending");
  start_dataplane();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_EQ(ctl({"drain", "web/b1"}).exit_code, 0);
}

TEST_F(Sluicectl, failures_without_an_answer_are_json_for_programs_too) {
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"status", "-o", "json"}, 4},
      {{"--output=json", "dance"}, 2},
      {{"-ojson", "drain", "b1"}, 2},
      {{"--output", "json", "check-config", path("missing.yaml")}, 2}};
  for (const auto &[arguments, exit_code] : cases) {
    const Finished finished = ctl(arguments);
    EXPECT_EQ(finished.exit_code, exit_code);
    const json body = json::parse(finished.out, nullptr, false);
    ASSERT_TRUE(body.is_object()) << finished.out;
    EXPECT_EQ(body["exit_code"], exit_code);
    EXPECT_THAT(finished.err, HasSubstr(body["detail"].get<std::string>()));
  }
}

/// Something that is not sluiced on a socket: gives each connection the same answer.
class Stranger {
 public:
  Stranger(const std::string &path, std::string answer) : answer_(std::move(answer)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr *>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    thread_ = std::thread([this] {
      for (int peer = accept(listener_, nullptr, nullptr); peer >= 0;
           peer = accept(listener_, nullptr, nullptr)) {
        char request[4096];
        if (read(peer, request, sizeof(request)) > 0)
          send(peer, answer_.data(), answer_.size(), MSG_NOSIGNAL);
        close(peer);
      }
    });
  }
  ~Stranger() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  Stranger(const Stranger &) = delete;
  Stranger &operator=(const Stranger &) = delete;

 private:
  std::string answer_;
  int listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
  std::thread thread_;
};

TEST_F(Sluicectl, answers_that_are_no_json_are_failures_and_json_for_programs) {
  for (const std::string status : {"200 OK", "500 Internal Server Error"}) {
    const std::string socket = path("api.sock");
    const Stranger stranger(socket, "HTTP/1.1 " + status + "\r\nContent-Length: 5\r\n\r\nhello");
    const Finished finished = ctl({"-o", "json", "status"});
    EXPECT_EQ(finished.exit_code, 1) << status;
    const json body = json::parse(finished.out, nullptr, false);
    ASSERT_TRUE(body.is_object()) << finished.out;
    EXPECT_EQ(body["exit_code"], 1);
    std::filesystem::remove(socket);
  }
}

TEST_F(Sluicectl, failures_exit_with_1) {
  start_sluiced();
  const Finished conflict = ctl({"undrain", "web/b2"});
  EXPECT_EQ(conflict.exit_code, 6);
  EXPECT_THAT(conflict.err, HasSubstr("drain: true"));
  const Finished counters = ctl({"counters"});
  EXPECT_EQ(counters.exit_code, 1);
  EXPECT_THAT(counters.err, HasSubstr("dataplane unreachable"));
  EXPECT_THAT(counters.err, HasSubstr("start sluice-dataplane"));
}

TEST_F(Sluicectl, bad_values_exit_with_2) {
  start_sluiced();
  const Finished finished = ctl({"connections", "--client", "somebody"});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.err, HasSubstr("somebody"));
}

TEST_F(Sluicectl, checks_configurations_from_files_and_standard_input) {
  start_sluiced();
  EXPECT_THAT(ctl({"check-config", config_path()}).out, HasSubstr("valid: 2 services, 2 pools, 3 backends"));
  EXPECT_EQ(ctl({"check-config", "-"}, read_text(config_path())).exit_code, 0);
  write_text(path("empty.yaml"), "");
  write_text(path("large.yaml"), std::string((16u << 20) + 1, '#'));
  for (const char *file : {"empty.yaml", "large.yaml"}) {  // both programs say the same
    EXPECT_EQ(ctl({"check-config", path(file)}).exit_code, 5) << file;
    EXPECT_EQ(run_program({SLUICED_PATH, "--check-config", path(file)}).exit_code, 5) << file;
  }
  EXPECT_THAT(ctl({"check-config", path("large.yaml")}).err, HasSubstr("16777216 bytes"));
  write_text(path("bad.yaml"), "version: 1\nservices: [{name: 5, color: red}]\npools: []\n");
  const Finished bad = ctl({"check-config", path("bad.yaml")});
  EXPECT_EQ(bad.exit_code, 5);
  EXPECT_THAT(bad.err, HasSubstr(path("bad.yaml").native() + ":2:"));
  EXPECT_THAT(bad.err, HasSubstr("color"));
  const Finished as_json = ctl({"-o", "json", "check-config", path("bad.yaml")});
  EXPECT_EQ(as_json.exit_code, 5);
  EXPECT_FALSE(json::parse(as_json.out)["errors"].empty());
}

TEST_F(Sluicectl, tables_for_people_and_json_for_programs) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  for (const char *command : {"status", "services", "backends", "connections", "counters"}) {
    const Finished table = ctl({command});
    EXPECT_EQ(table.exit_code, 0) << table.err;
    EXPECT_THAT(table.out, Not(StartsWith("{")));
    const Finished as_json = ctl({command, "-o", "json"});
    EXPECT_TRUE(json::parse(as_json.out).is_object());
  }
  EXPECT_THAT(ctl({"backends"}).out,
              HasSubstr("b1       127.0.0.1  configuration     100  100.0%       1        7    700"));
  EXPECT_THAT(ctl({"counters"}).out, HasSubstr("forward_new          forward        1"));
  EXPECT_THAT(ctl({"counters"}).out, Not(HasSubstr("drop_fragment")));
  EXPECT_THAT(ctl({"counters", "--all"}).out, HasSubstr("drop_fragment"));
  EXPECT_THAT(ctl({"connections", "--limit", "0"}).out, HasSubstr("0 of 1 connections"));
  EXPECT_THAT(ctl({"services", "web"}).out, HasSubstr("drained: drained by the configuration"));
}

TEST_F(Sluicectl, drains_with_a_word_on_what_happened) {
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_THAT(ctl({"drain", "web/b1"}).out, HasSubstr("done: in force, revision"));
  EXPECT_THAT(ctl({"drain", "web/b1"}).out, HasSubstr("drained already"));
  EXPECT_THAT(ctl({"undrain", "web/b1"}).out, HasSubstr("done: in force, revision"));
  EXPECT_THAT(ctl({"reload"}).out, HasSubstr("nothing to change"));
}

TEST_F(Sluicectl, names_go_through_the_path_as_they_are) {
  start_sluiced();
  const Finished finished = ctl({"drain", "we b/../b%2F1?x=#"});
  EXPECT_EQ(finished.exit_code, 3);
  EXPECT_THAT(finished.err, HasSubstr("\"we b\""));
  EXPECT_THAT(finished.err, HasSubstr("\"../b%2F1?x=#\""));
}

}  // namespace
}  // namespace sluice
