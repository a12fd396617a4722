// Two network namespaces of a test's own, joined by a veth pair: the test's process lives in one (as
// the dataplane does), "the peer" is the other. Nothing of them is seen outside, and nothing is left.
#ifndef SLUICE_TESTS_SERVER_NETWORK_NAMESPACES_H
#define SLUICE_TESTS_SERVER_NETWORK_NAMESPACES_H

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice {

/// Runs a shell command; aborts the test program when it fails.
inline void run(const std::string &command) {
  if (std::system(command.c_str()) == 0) return;
  std::fprintf(stderr, "failed: %s\n", command.c_str());
  std::abort();
}

/// The output of a shell command.
inline std::string output_of(const std::string &command) {
  std::string output;
  FILE *pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> buffer = {};
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe))
    output.append(buffer.data(), size);
  ::pclose(pipe);
  return output;
}

class NetworkNamespaces {
 public:
  static constexpr const char *kLocalMac = "02:00:00:00:00:01";
  static constexpr const char *kPeerMac = "02:00:00:00:00:02";

  /// Interfaces: "port0" here with 10.0.0.1/24 and fd00::1/64, "peer0" there with 10.0.0.2/24,
  /// fd00::2/64 and fe80::2/64. Needs root.
  NetworkNamespaces() : before_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    enter_new_namespace();
    std::array<int, 2> ready = {};
    if (::pipe(ready.data()) != 0) std::abort();
    peer_ = ::fork();
    if (peer_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that aborts leaves nobody behind
      enter_new_namespace();
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) std::abort();
    ::close(ready[0]);
    ::close(ready[1]);
    run("ip link set lo up");
    make_pair();
  }
  NetworkNamespaces(const NetworkNamespaces &) = delete;
  NetworkNamespaces &operator=(const NetworkNamespaces &) = delete;
  ~NetworkNamespaces() {
    ::kill(peer_, SIGKILL);
    ::waitpid(peer_, nullptr, 0);
    if (::setns(before_, CLONE_NEWNET) != 0) std::abort();
    ::close(before_);
  }

  /// The pair, again when a test has removed it. Returns when both ends have a carrier, of which the kernel
  /// learns some time after they are up.
  void make_pair() const {
    run("ip link add port0 address " + std::string(kLocalMac) + " type veth peer name peer0 address " +
        kPeerMac + " netns " + std::to_string(peer_));
    run("ip addr add 10.0.0.1/24 dev port0 && ip addr add fd00::1/64 dev port0 nodad && ip link set port0 "
        "up");
    in_peer("ip addr add 10.0.0.2/24 dev peer0 && ip addr add fd00::2/64 dev peer0 nodad");
    in_peer("ip addr add fe80::2/64 dev peer0 nodad && ip link set peer0 up && ip link set lo up");
    run(until_running("port0"));
    in_peer(until_running("peer0"));
  }

  void in_peer(const std::string &command) const {
    run("nsenter --net=/proc/" + std::to_string(peer_) + "/ns/net sh -c '" + command + "'");
  }
  uint32_t port_ifindex() const { return ::if_nametoindex("port0"); }

 private:
  /// Fails after many tries.
  static std::string until_running(const std::string &interface) {
    return "for try in $(seq 3000); do ip -oneline link show dev " + interface +
           " | grep -q \"state UP\" && exit 0; sleep 0.01; done; exit 1";
  }
  static void enter_new_namespace() {
    if (::unshare(CLONE_NEWNET) != 0) {
      std::perror("unshare(CLONE_NEWNET): this test needs root");
      std::abort();
    }
    // Addresses are usable at once: no duplicate address detection.
    run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
  }

  int before_;
  pid_t peer_ = -1;
};

}  // namespace sluice

#endif
