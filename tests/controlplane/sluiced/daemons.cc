#include "tests/controlplane/sluiced/daemons.h"

#include <csignal>

namespace sluice {

std::string config_text(const std::string &members, const std::string &health) {
  return "version: 1\n"
         "services:\n"
         "  - {name: web, vips: [198.51.100.10, \"2001:db8::10\"], protocol: tcp, ports: [80], pool: web}\n"
         "  - {name: dns, vips: [198.51.100.10], protocol: udp, ports: [53], pool: dns}\n"
         "pools:\n"
         "  - name: web\n"
         "    forwarding: ipip\n"
         "    slots: 251\n"
         "    backends: " +
         members +
         "\n"
         "    health: " +
         health +
         "\n"
         "  - {name: dns, forwarding: ipip, slots: 251, backends: [{name: d1, address: 10.9.0.1}]}\n";
}

void Daemons::TearDown() {
  sluiced_.reset();
  dataplane_.reset();
  if (HasFailure()) std::fprintf(stderr, "sluiced's log:\n%s", sluiced_log().c_str());
}

std::vector<std::string> Daemons::sluiced_argv() const {
  return {SLUICED_PATH,           "--config",     config_path(),    "--dataplane-socket",
          path("dataplane.sock"), "--api-socket", path("api.sock"), "--state-dir",
          path("state"),          "--log-level",  "debug"};
}

void Daemons::start_sluiced() {
  sluiced_ = std::make_unique<Process>(sluiced_argv(), path("sluiced.log"));
  ASSERT_TRUE(eventually([this] { return !sluiced_->running() || ctl({"status"}).exit_code == 0; }));
  ASSERT_TRUE(sluiced_->running()) << sluiced_log();
}

int Daemons::stop_sluiced() {
  sluiced_->signal(SIGTERM);
  return sluiced_->wait().value_or(-1);
}

void Daemons::start_dataplane() {
  const std::filesystem::path log = path("dataplane.log");
  dataplane_ =
      std::make_unique<Process>(std::vector<std::string>{PACKETLESS_DATAPLANE_PATH, directory_.path()}, log);
  ASSERT_TRUE(eventually([this] { return std::filesystem::exists(path("dataplane.sock")); }))
      << read_text(log);
}

void Daemons::stop_dataplane() {
  dataplane_->signal(SIGTERM);
  EXPECT_EQ(dataplane_->wait(), 0);
}

Finished Daemons::ctl(std::vector<std::string> arguments, const std::string &input) const {
  std::vector<std::string> argv = {SLUICECTL_PATH, "--socket", path("api.sock")};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run_program(argv, input);
}

nlohmann::json Daemons::query(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), {"-o", "json"});
  const Finished finished = ctl(arguments);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  return nlohmann::json::parse(finished.out);
}

nlohmann::json Daemons::backend(const std::string &name) const {
  const nlohmann::json answer = query({"backends"});
  for (const nlohmann::json &each : answer["backends"]) {
    if (each["name"] == name) return each;
  }
  return nlohmann::json::object();
}

}  // namespace sluice
