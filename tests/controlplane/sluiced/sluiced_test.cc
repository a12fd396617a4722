// sluiced as a process, against the dataplane's real server.
#include <csignal>

#include <gmock/gmock.h>

#include "tests/controlplane/health/loopback_server.h"
#include "tests/controlplane/sluiced/daemons.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string http_check(uint16_t l4_port) {
  return "{type: http, port: " + std::to_string(l4_port) +
         ", path: /, interval: 1s, timeout: 1s, rise: 1, fall: 2}";
}

// Answers every request with a status that can be changed.
class WebServer {
 public:
  WebServer()
      : server_(Family::kIpv4, [this](LoopbackServer &, int connection) {
          read_request(connection);
          send_text(connection, "HTTP/1.1 " + std::to_string(status_) + " X\r\nContent-Length: 0\r\n\r\n");
        }) {}
  void answer_with(int status) { status_ = status; }
  uint16_t l4_port() const { return server_.l4_port(); }

 private:
  std::atomic<int> status_{200};
  LoopbackServer server_;
};

class Sluiced : public Daemons {};

TEST_F(Sluiced, a_bad_configuration_at_start_ends_it_with_5_and_every_error) {
  configure("version: 3\nservices: [{name: web, protocol: sctp}]\npools: []\nextra: 1\n");
  const Finished finished = run_program(sluiced_argv());
  EXPECT_EQ(finished.exit_code, 5);
  EXPECT_THAT(finished.err, HasSubstr("version"));
  EXPECT_THAT(finished.err, HasSubstr("sctp"));
  EXPECT_THAT(finished.err, HasSubstr("extra"));
  EXPECT_THAT(finished.err, HasSubstr(config_path().native() + ":2:"));
}

TEST_F(Sluiced, checks_a_file_without_starting) {
  configure(config_text(kTwoMembers));
  EXPECT_EQ(run_program({SLUICED_PATH, "--check-config", config_path()}).exit_code, 0);
  configure("version: 1\nversion: 1\n");
  EXPECT_EQ(run_program({SLUICED_PATH, "--check-config", config_path()}).exit_code, 5);
  EXPECT_EQ(run_program({SLUICED_PATH, "--check-config", path("missing.yaml")}).exit_code, 5);
  EXPECT_EQ(run_program({SLUICED_PATH, "--no-such-option"}).exit_code, 2);
}

TEST_F(Sluiced, without_a_dataplane_it_says_so_and_keeps_changes_for_it) {
  configure(config_text(kTwoMembers));
  start_sluiced();
  const json status = query({"status"});
  EXPECT_FALSE(status["dataplane"]["connected"]);
  EXPECT_THAT(status["dataplane"]["state"].get<std::string>(), HasSubstr("dataplane unreachable"));
  EXPECT_TRUE(status["pending"]);
  EXPECT_THAT(ctl({"status"}).out, HasSubstr("dataplane unreachable"));
  EXPECT_EQ(ctl({"drain", "web/b1"}).exit_code, 7);
  EXPECT_EQ(state_of("b1"), "draining");
  start_dataplane();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_FALSE(query({"status"})["pending"]);
  EXPECT_EQ(backend("b1")["slots"], 0);
  EXPECT_EQ(backend("b2")["slots"], 251);
}

TEST_F(Sluiced, publishes_the_configuration) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  EXPECT_EQ(snapshot_in_force(), 1u);
  EXPECT_NEAR(backend("b1")["slot_share"].get<double>(), 0.5, 0.01);
  EXPECT_EQ(backend("d1")["slots"], 251);
  EXPECT_EQ(query({"status"})["dataplane"]["engine"], "packetless");
}

TEST_F(Sluiced, shows_counters_and_connections_of_the_dataplane) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  EXPECT_EQ(backend("b1")["packets"], 7);
  EXPECT_EQ(backend("b1")["active_connections"], 1);
  EXPECT_EQ(query({"services", "web"})["bytes"], 700);
  const json counters = query({"counters"});
  EXPECT_EQ(counters["totals"]["received_packets"], 7);
  EXPECT_EQ(counters["verdicts"][0]["name"], "forward_established");
  EXPECT_EQ(counters["verdicts"][0]["workers"], (json{0, 6}));
  const json found = query({"connections", "--service", "web", "--client", "192.0.2.1"});
  ASSERT_EQ(found["connections"].size(), 1u) << found;
  EXPECT_EQ(found["connections"][0]["backend"], "b1");
  EXPECT_EQ(found["connections"][0]["state"], "established");
  EXPECT_EQ(query({"connections", "--service", "dns"})["matched"], 0);
}

TEST_F(Sluiced, a_dataplane_that_lost_its_snapshot_gets_it_again) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  query({"drain", "web/b1"});
  const uint64_t before = snapshot_in_force();
  stop_dataplane();
  ASSERT_TRUE(eventually([this] { return !dataplane_connected(); }));
  EXPECT_EQ(ctl({"counters"}).exit_code, 1);
  std::filesystem::remove(path("snapshot"));
  start_dataplane();
  ASSERT_TRUE(eventually([&] { return dataplane_connected() && snapshot_in_force() > before; }));
  EXPECT_EQ(state_of("b1"), "draining");
}

TEST_F(Sluiced, a_dataplane_that_kept_its_snapshot_is_left_alone) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  const uint64_t before = snapshot_in_force();
  stop_dataplane();
  ASSERT_TRUE(eventually([this] { return !dataplane_connected(); }));
  start_dataplane();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_EQ(snapshot_in_force(), before);
}

TEST_F(Sluiced, killing_and_starting_it_changes_nothing) {
  WebServer web;
  const ClosedPort closed(Family::kIpv6);
  configure(config_text(kTwoMembers, http_check(web.l4_port())));
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually(
      [this] { return state_of("b1") == "up" && backend("b2")["last_check"] == "connection refused"; }));
  query({"drain", "web/b2"});
  ASSERT_TRUE(
      eventually([this] { return backend("b2")["health"] == "down" && state_of("b2") == "drained"; }));
  const uint64_t before = snapshot_in_force();
  const json backends = query({"backends"})["backends"];
  for (const int how : {SIGKILL, SIGTERM}) {
    sluiced_->signal(how);
    EXPECT_EQ(sluiced_->wait(), how == SIGTERM ? 0 : 128 + SIGKILL);
    start_sluiced();
    EXPECT_EQ(snapshot_in_force(), before) << sluiced_log();
    // Not at its start, and not once every backend has been checked again either.
    ASSERT_TRUE(eventually([this] { return backend("b1")["last_check"] == "HTTP status 200"; }));
    ASSERT_TRUE(eventually([this] { return backend("b2")["last_check"] == "connection refused"; }));
    EXPECT_EQ(snapshot_in_force(), before) << sluiced_log();
    for (const json &old : backends) {
      // "drained" is known once connections have been counted again.
      EXPECT_TRUE(eventually([&] { return backend(old["name"])["state"] == old["state"]; })) << sluiced_log();
      const json now = backend(old["name"]);
      EXPECT_EQ(now["id"], old["id"]);
      EXPECT_EQ(now["slots"], old["slots"]);
    }
  }
}

TEST_F(Sluiced, started_without_a_dataplane_it_goes_on_from_its_own_copy) {
  configure(config_text("[{name: b1, address: 10.1.0.1}, {name: b2, address: 10.1.0.2}]"));
  start_dataplane();
  start_sluiced();
  const json id = backend("b2")["id"];
  const uint64_t before = snapshot_in_force();
  EXPECT_EQ(stop_sluiced(), 0);
  stop_dataplane();
  start_sluiced();
  EXPECT_EQ(backend("b2")["id"], id);
  EXPECT_FALSE(query({"status"})["pending"]);
  start_dataplane();
  ASSERT_TRUE(eventually([this] { return dataplane_connected(); }));
  EXPECT_EQ(snapshot_in_force(), before);
}

// Where sluiced starts beside a dataplane whose snapshot tells less than sluiced's own copy.
class SluicedRestart : public Sluiced {
 protected:
  // Ends both daemons when the last snapshot has b1 up; `older_` is one that has it down. From then on no
  // check comes to an end: health is what was carried over, and stays it.
  void run_until_b1_is_up() {
    web_.answer_with(503);
    configure(config_text(kOneMember, http_check(web_.l4_port())));
    start_dataplane();
    start_sluiced();
    older_ = read_text(path("snapshot"));
    web_.answer_with(200);
    ASSERT_TRUE(eventually([this] { return backend("b1")["slots"] == 251; }));
    EXPECT_EQ(stop_sluiced(), 0);
    stop_dataplane();
    configure(config_text(kOneMember, "{type: tcp, port: " + std::to_string(silent_.l4_port()) +
                                          ", interval: 1h, timeout: 1h}"));
  }

  void expect_b1_is_up() {
    start_dataplane();
    start_sluiced();
    ASSERT_TRUE(dataplane_connected());
    EXPECT_EQ(state_of("b1"), "up") << sluiced_log();
    EXPECT_EQ(backend("b1")["slots"], 251);
    EXPECT_FALSE(query({"status"})["pending"]);
  }

  static constexpr const char *kOneMember = "[{name: b1, address: 127.0.0.1}]";
  WebServer web_;
  SilentPort silent_{Family::kIpv4};
  std::string older_;
};

TEST_F(SluicedRestart, beside_a_dataplane_with_an_older_snapshot_takes_no_backend_down) {
  run_until_b1_is_up();
  write_text(path("snapshot"), older_);
  expect_b1_is_up();
}

TEST_F(SluicedRestart, beside_a_dataplane_without_a_snapshot_takes_no_backend_down) {
  run_until_b1_is_up();
  std::filesystem::remove(path("snapshot"));
  expect_b1_is_up();
}

TEST_F(SluicedRestart, beside_a_dataplane_with_a_damaged_snapshot_takes_no_backend_down) {
  run_until_b1_is_up();
  write_text(path("snapshot"), "damaged");
  expect_b1_is_up();
}

TEST_F(Sluiced, an_identifier_freed_before_a_restart_is_not_given_to_another_backend) {
  const auto configure_members = [this](const std::string &last) {
    configure("removed_backend_grace: 1s\nmax_moved: {connections: 100%}\n" +
              config_text("[{name: b1, address: 10.1.0.1}" + last + "]"));
  };
  configure_members(", {name: b2, address: 10.1.0.2}");
  start_dataplane();
  start_sluiced();
  const json freed = backend("d1")["id"];  // of the last pool: the highest
  configure("removed_backend_grace: 1s\nversion: 1\nservices: []\npools: []\n");
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  ASSERT_TRUE(eventually([this] {
    query({"reload"});
    return query({"backends"})["backends"].empty();
  }));
  EXPECT_EQ(stop_sluiced(), 0);
  stop_dataplane();
  start_dataplane();
  start_sluiced();
  configure_members("");
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  EXPECT_GT(backend("b1")["id"], freed);
  EXPECT_GT(backend("d1")["id"], freed);
}

TEST_F(Sluiced, follows_health) {
  WebServer web;
  configure(config_text("[{name: b1, address: 127.0.0.1}]", http_check(web.l4_port())));
  start_dataplane();
  start_sluiced();
  ASSERT_TRUE(eventually([this] { return state_of("b1") == "up" && backend("b1")["slots"] == 251; }));
  const uint64_t up = snapshot_in_force();
  web.answer_with(503);
  ASSERT_TRUE(eventually([this] { return state_of("b1") == "down"; }));
  EXPECT_EQ(backend("b1")["reason"], "HTTP status 503, expected 200-399");
  ASSERT_TRUE(eventually([&] { return snapshot_in_force() > up; }));
  EXPECT_EQ(backend("b1")["slots"], 0);
  web.answer_with(200);
  ASSERT_TRUE(eventually([this] { return state_of("b1") == "up" && backend("b1")["slots"] == 251; }));
}

TEST_F(Sluiced, a_new_backend_takes_nothing_before_its_first_success) {
  configure(
      config_text("[{name: b1, address: 127.0.0.1}]", "{type: tcp, port: 1, interval: 1h, timeout: 1s}"));
  start_dataplane();
  start_sluiced();
  EXPECT_EQ(state_of("b1"), "unknown");
  EXPECT_EQ(backend("b1")["slots"], 0);
}

TEST_F(Sluiced, a_check_added_to_a_pool_in_use_takes_nothing_out_at_once) {
  configure(config_text("[{name: b1, address: 127.0.0.1}]"));
  start_dataplane();
  start_sluiced();
  EXPECT_EQ(state_of("b1"), "up");
  configure(config_text("[{name: b1, address: 127.0.0.1}]",
                        "{type: tcp, port: 1, interval: 1h, timeout: 1s, fall: 2}"));
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  EXPECT_EQ(state_of("b1"), "up");
  // Another address is another backend, whatever its name.
  configure(config_text("[{name: b1, address: 127.0.0.2}]",
                        "{type: tcp, port: 1, interval: 1h, timeout: 1s, fall: 2}"));
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  EXPECT_EQ(backend("b1")["health"], "unknown");
}

TEST_F(Sluiced, drains_and_undrains_as_often_as_asked) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  for (int i = 0; i < 20; i++) {
    const uint64_t before = snapshot_in_force();
    EXPECT_EQ(query({"drain", "web/b1"})["result"], "applied");
    EXPECT_EQ(snapshot_in_force(), before + 1);
    EXPECT_EQ(state_of("b1"), "draining");
    EXPECT_EQ(query({"drain", "web/b1"})["result"], "unchanged");
    EXPECT_EQ(query({"undrain", "web/b1"})["result"], "applied");
    EXPECT_EQ(state_of("b1"), "up");
  }
}

TEST_F(Sluiced, a_drain_outlives_restart_and_reload) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  query({"drain", "web/b1"});
  sluiced_->signal(SIGKILL);
  sluiced_->wait();
  start_sluiced();
  EXPECT_THAT(backend("b1")["reason"].get<std::string>(), HasSubstr("drained by the operator"));
  EXPECT_EQ(query({"reload"})["result"], "unchanged");
  EXPECT_EQ(state_of("b1"), "draining");
}

TEST_F(Sluiced, a_good_reload_is_in_force_when_it_is_answered) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  configure(config_text("[{name: b2, address: \"::1\"}, {name: b3, address: 10.1.0.3}]"));
  const json answer = query({"reload"});
  EXPECT_EQ(answer["result"], "applied");
  EXPECT_EQ(snapshot_in_force(), answer["snapshot"].get<uint64_t>());
  EXPECT_EQ(state_of("b1"), "removed");
  EXPECT_EQ(state_of("b3"), "up");
  // It comes back under its own identifier.
  const json id = backend("b1")["id"];
  configure(config_text(kTwoMembers));
  query({"reload"});
  EXPECT_EQ(state_of("b1"), "up");
  EXPECT_EQ(backend("b1")["id"], id);
}

TEST_F(Sluiced, a_bad_reload_changes_nothing_and_tells_every_error) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  const uint64_t before = snapshot_in_force();
  const json backends = query({"backends"});
  configure(config_text("[{name: b1, address: nowhere}, {name: b1, address: 10.0.0.1, weight: 5000}]"));
  const Finished reload = ctl({"reload"});
  EXPECT_EQ(reload.exit_code, 5);
  EXPECT_THAT(reload.err, HasSubstr("nowhere"));
  EXPECT_THAT(reload.err, HasSubstr("5000"));
  EXPECT_EQ(snapshot_in_force(), before);
  EXPECT_EQ(query({"backends"})["backends"].size(), backends["backends"].size());
  EXPECT_THAT(query({"status"})["config"]["problem"].get<std::string>(), HasSubstr("nowhere"));
  EXPECT_THAT(ctl({"status"}).out, HasSubstr("nowhere"));
  configure(config_text(kTwoMembers));
  EXPECT_EQ(ctl({"reload"}).exit_code, 0);
  EXPECT_EQ(query({"status"})["config"]["problem"], "");
}

TEST_F(Sluiced, sighup_reloads) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  configure(config_text("[{name: b1, address: 127.0.0.1}]"));
  sluiced_->signal(SIGHUP);
  EXPECT_TRUE(eventually([this] { return state_of("b2") == "removed"; }));
  configure("nonsense");
  sluiced_->signal(SIGHUP);
  EXPECT_TRUE(eventually([this] { return query({"status"})["config"]["problem"] != ""; }));
  EXPECT_EQ(state_of("b1"), "up");
}

TEST_F(Sluiced, two_do_not_share_a_state_directory) {
  configure(config_text(kTwoMembers));
  start_sluiced();
  const Finished second = run_program(sluiced_argv());
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr(path("state").native()));
  EXPECT_EQ(ctl({"status"}).exit_code, 0);
}

TEST_F(Sluiced, makes_the_directories_of_its_socket_and_state) {
  configure(config_text(kTwoMembers));
  const std::string socket = path("run/sluice/api.sock");
  const std::vector<std::string> argv = {
      SLUICED_PATH,   "--config", config_path(), "--dataplane-socket",    path("dataplane.sock"),
      "--api-socket", socket,     "--state-dir", path("lib/sluice/state")};
  const Process daemon(argv, path("sluiced.log"));
  ASSERT_TRUE(eventually([&] {
    return run_program({SLUICECTL_PATH, "--socket", socket, "status"}).exit_code == 0;
  })) << sluiced_log();
  using std::filesystem::perms;
  const perms group = perms::owner_all | perms::group_read | perms::group_exec;
  const auto mode_of = [this](const char *name) { return std::filesystem::status(path(name)).permissions(); };
  for (const char *made : {"run", "run/sluice", "lib", "lib/sluice"}) EXPECT_EQ(mode_of(made), group) << made;
  EXPECT_EQ(mode_of("lib/sluice/state"), perms::owner_all);
}

TEST_F(Sluiced, says_which_directory_it_cannot_make_and_what_to_do) {
  configure(config_text(kTwoMembers));
  write_text(path("file"), "in the way");
  for (const char *option : {"--api-socket", "--state-dir"}) {
    std::vector<std::string> argv = sluiced_argv();
    argv.insert(argv.end(), {option, path("file/below/it")});
    for (size_t i = 0; i + 2 < argv.size(); i++) {  // in place of the usual one
      if (argv[i] != option) continue;
      argv.erase(argv.begin() + static_cast<ptrdiff_t>(i), argv.begin() + static_cast<ptrdiff_t>(i) + 2);
      break;
    }
    const Finished finished = run_program(argv);
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_THAT(finished.err, HasSubstr(option));
    EXPECT_THAT(finished.err, HasSubstr(path("file").native()));
    EXPECT_THAT(finished.err, HasSubstr("install -d"));
  }
}

TEST_F(Sluiced, ends_cleanly_and_leaves_the_dataplane_as_it_is) {
  configure(config_text(kTwoMembers));
  start_dataplane();
  start_sluiced();
  EXPECT_EQ(stop_sluiced(), 0);
  EXPECT_FALSE(std::filesystem::exists(path("api.sock")));
  EXPECT_TRUE(dataplane_->running());
}

}  // namespace
}  // namespace sluice
