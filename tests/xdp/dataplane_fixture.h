// The program sluice-dataplane as a process. Needs root.
#ifndef SLUICE_TESTS_XDP_DATAPLANE_FIXTURE_H
#define SLUICE_TESTS_XDP_DATAPLANE_FIXTURE_H

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "dataplane/server/snapshot_store.h"
#include "tests/xdp/engine_fixture.h"

namespace sluice {

inline std::string program_path;  // NOLINT: main's argument

/// Runs sluice-dataplane on port0, with files in a directory of the test's own.
class DataplaneFixture : public XdpFixture {
 protected:
  void TearDown() override {
    kill_dataplane();
    XdpFixture::TearDown();
  }

  std::vector<std::string> arguments(const std::vector<std::string> &more) const {
    const std::string folder = directory_.path().string();
    std::vector<std::string> all = {program_path,
                                    "--port=name=front,interface=port0,addresses=10.0.0.1/24;fd00::1/64",
                                    "--control-socket=" + folder + "/control",
                                    "--snapshot=" + folder + "/snapshot",
                                    "--connections=" + connections_path().string(),
                                    "--bpf-directory=" + pin_directory().string(),
                                    "--ipv4-connections=1024",
                                    "--ipv6-connections=1024",
                                    "--idle=sleep",
                                    "--huge-pages=off"};
    for (const std::string &one : more) {
      // In the place of the usual one.
      std::erase_if(all, [name = one.substr(0, one.find('=') + 1)](const std::string &usual) {
        return name.size() > 1 && usual.starts_with(name);
      });
    }
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  /// Starts the program and waits until it forwards, or has ended: then process_ is none.
  void start(const std::vector<std::string> &more) {
    std::vector<std::string> texts = under_;
    const std::vector<std::string> own = arguments(more);
    texts.insert(texts.end(), own.begin(), own.end());
    std::filesystem::remove(log_path());
    process_ = ::fork();
    if (process_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int log = ::open(log_path().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup2(log, STDOUT_FILENO);
      ::dup2(log, STDERR_FILENO);
      ::setpgid(0, 0);  // with whom it was started under, all are ended
      std::vector<char *> argv;
      argv.reserve(texts.size() + 1);
      for (const std::string &text : texts) argv.push_back(const_cast<char *>(text.c_str()));
      argv.push_back(nullptr);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
    while (log().find("forwarding with") == std::string::npos) {
      if (::waitpid(process_, &exit_status_, WNOHANG) == process_) {
        process_ = -1;
        return;
      }
      ::usleep(20'000);
    }
  }

  /// Runs the program to its end; returns its exit code.
  int run_to_end(const std::vector<std::string> &more) {
    start(more);
    EXPECT_EQ(process_, -1) << "it forwards: " << log();
    return WEXITSTATUS(exit_status_);
  }

  void start_well(const std::vector<std::string> &more) {
    start(more);
    ASSERT_NE(process_, -1) << log();
  }

  void end_dataplane(int signal) {
    if (process_ < 0) return;
    ::kill(process_, signal);
    ::waitpid(process_, &exit_status_, 0);
    process_ = -1;
  }
  void kill_dataplane() { end_dataplane(SIGKILL); }
  void stop_dataplane() { end_dataplane(SIGTERM); }

  std::filesystem::path log_path() const { return directory_.path() / "log"; }
  std::string log() const {
    std::ostringstream text;
    text << std::ifstream(log_path()).rdbuf();
    return text.str();
  }
  int times_logged(const std::string &text) const {
    int found = 0;
    const std::string all = log();
    for (size_t at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) found++;
    return found;
  }
  /// Waits, generously, until the log has `text` so many times.
  bool until_logged(const std::string &text, int times = 1) const {
    for (int i = 0; i < 400; i++) {
      if (times_logged(text) >= times) return true;
      ::usleep(50'000);
    }
    return false;
  }
  static std::string addresses_on(const std::string &interface) {
    return output_of("ip -o addr show dev " + interface + " scope global 2>&1");
  }

  /// Leaves a snapshot to start with: what forwards is not replaced without one.
  void store_snapshot() const {
    const Status saved = SnapshotStore(directory_.path() / "snapshot").save(*tables_of(100)->snapshot);
    EXPECT_TRUE(saved.ok()) << saved.error().message;
  }

  std::vector<std::string> under_;  // a program that runs it, with its arguments
  pid_t process_ = -1;
  int exit_status_ = 0;
};

}  // namespace sluice

#endif
