// The dataplane's real server, control socket and shared memory, around an engine without packets: for
// tests of sluiced. A few counters and one connection are set, so that readers have something to read.
//
//   packetless_dataplane DIRECTORY      socket, snapshot and connection table are files of DIRECTORY
#include <csignal>
#include <cstdio>

#include <nlohmann/json.hpp>
#include <sys/signalfd.h>

#include "dataplane/server/server.h"

namespace sluice {
namespace {

class PacketlessEngine : public Engine {
 public:
  std::string name() const override { return "packetless"; }
  std::vector<EnginePort> ports() const override { return {}; }
  Status install(std::shared_ptr<const ForwardingTables> tables) override {
    tables_ = std::move(tables);
    return Done{};
  }
  void merge_active_connections() override {}
  nlohmann::json status() const override { return {{"packets", "none"}}; }

 private:
  std::shared_ptr<const ForwardingTables> tables_;
};

// Seven packets to backend 1 and service 0, and the connection that they were of.
void fill(const CounterRegion &counters, const ConnectionRegion &connections) {
  counters.worker(0).verdict_packets[kVerdictForwardNew] = 1;
  counters.worker(1).verdict_packets[kVerdictForwardEstablished] = 6;
  counters.worker(0).received_packets = 7;
  counters.backends(0)[1] = {.packets = 7, .bytes = 700, .opened_connections = 1, .active_connections = 1};
  counters.services(0)[0] = {.packets = 7, .bytes = 700};
  ConnectionIpv4 &entry = connections.ipv4_buckets(0)[0].ipv4[0];
  entry.client = host_to_be32(0xc0000201);  // 192.0.2.1
  entry.vip = host_to_be32(0xc633640a);     // 198.51.100.10
  entry.client_port = host_to_be16(40000);
  entry.vip_port = host_to_be16(80);
  const auto now_s = static_cast<uint32_t>(read_boot_clock().boottime_s) & kStampMask;
  entry.meta =
      static_cast<uint16_t>((now_s << kMetaStampShift) | (kConnectionEstablished << kMetaStateShift));
  entry.backend = 1;
}

int run(const std::filesystem::path &directory) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd stop(signalfd(-1, &signals, SFD_CLOEXEC));
  auto counters = CounterRegion::create({.worker_count = 2});
  auto connections = ConnectionRegion::open(
      {.path = directory / "connections", .worker_count = 2, .ipv4_connections = 64, .ipv6_connections = 64},
      read_boot_clock());
  if (!counters.ok() || !connections.ok()) return 1;
  fill(counters.value(), connections.value());
  PacketlessEngine engine;
  ServerOptions options;
  options.control_socket.path = directory / "dataplane.sock";
  options.snapshot_path = directory / "snapshot";
  options.version = "test";
  auto server = Server::create(options, &engine, &counters.value(), &connections.value());
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.error().message.c_str());
    return 1;
  }
  return server.value()->run(stop.get()).ok() ? 0 : 1;
}

}  // namespace
}  // namespace sluice

int main(int argc, char **argv) { return argc == 2 ? sluice::run(argv[1]) : 2; }
