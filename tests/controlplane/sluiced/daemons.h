// sluiced, a packetless dataplane and sluicectl in a directory of their own.
#ifndef SLUICE_TESTS_CONTROLPLANE_SLUICED_DAEMONS_H
#define SLUICE_TESTS_CONTROLPLANE_SLUICED_DAEMONS_H

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/controlplane/sluiced/process.h"
#include "tests/server/temporary_directory.h"

namespace sluice {

/// Services "web" (198.51.100.10 and 2001:db8::10, TCP 80) and "dns" (UDP 53) on pools "web" and "dns";
/// `members` are the backends of "web", `health` is its health check.
std::string config_text(const std::string &members, const std::string &health = "{type: none}");

inline constexpr const char *kTwoMembers = "[{name: b1, address: 127.0.0.1}, {name: b2, address: \"::1\"}]";

class Daemons : public testing::Test {
 protected:
  void TearDown() override;

  void configure(const std::string &text) const { write_text(config_path(), text); }
  std::vector<std::string> sluiced_argv() const;
  /// Starts it and waits until it answers.
  void start_sluiced();
  /// SIGTERM, and its exit code.
  int stop_sluiced();
  /// Starts it and waits until it listens.
  void start_dataplane();
  void stop_dataplane();

  Finished ctl(std::vector<std::string> arguments, const std::string &input = "") const;
  /// The JSON answer of a command that must succeed.
  nlohmann::json query(std::vector<std::string> arguments) const;
  nlohmann::json backend(const std::string &name) const;
  std::string state_of(const std::string &backend_name) const {
    return backend(backend_name).value("state", "");
  }
  uint64_t snapshot_in_force() const { return query({"status"})["dataplane"]["snapshot"]; }
  bool dataplane_connected() const { return query({"status"})["dataplane"]["connected"]; }

  std::filesystem::path path(const std::string &name) const { return directory_.path() / name; }
  std::filesystem::path config_path() const { return path("sluice.yaml"); }
  std::string sluiced_log() const { return read_text(path("sluiced.log")); }

  TemporaryDirectory directory_;
  std::unique_ptr<Process> sluiced_;
  std::unique_ptr<Process> dataplane_;
};

}  // namespace sluice

#endif
