// An XDP engine on a veth pair in namespaces of the test's own (network and mounts), with pins in a directory
// that goes with the test. Needs root.
#ifndef SLUICE_TESTS_XDP_ENGINE_FIXTURE_H
#define SLUICE_TESTS_XDP_ENGINE_FIXTURE_H

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/mount.h>

#include "dataplane/server/interface.h"
#include "dataplane/server/port_options.h"
#include "dataplane/server/snapshot_store.h"
#include "dataplane/server/unique_fd.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/engine.h"
#include "dataplane/xdp/pins.h"
#include "tests/server/network_namespaces.h"
#include "tests/server/snapshot_builder.h"
#include "tests/server/temporary_directory.h"

namespace sluice {

/// Interface "port0" of this test, and "peer0" at its other end.
class XdpFixture : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
  }
  void TearDown() override {
    engine_.reset();
    memory_ = {};
    pins_.reset();
    while (::umount2(pin_directory().c_str(), MNT_DETACH) == 0) continue;
  }

  std::filesystem::path pin_directory() const { return directory_.path() / "bpf"; }
  std::filesystem::path connections_path() const { return directory_.path() / "connections"; }

  /// A program that passes everything.
  static UniqueFd load_program(const char *name, uint32_t flags = 0) {
    bpf_insn code[2] = {};
    code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;  // r0 = XDP_PASS
    code[0].imm = XDP_PASS;
    code[1].code = BPF_JMP | BPF_EXIT;
    LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = flags);
    UniqueFd fd(bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", code, 2, &options));
    EXPECT_TRUE(fd.valid()) << std::strerror(errno);
    return fd;
  }

  /// The identifier of the program on an interface, 0: none.
  static uint32_t program_id_on(const std::string &interface) {
    return program_on(interface, interface_facts(interface).ifindex).value().id;
  }

  XdpMemoryOptions memory_options() const {
    XdpMemoryOptions options;
    options.connections = {
        .path = connections_path(), .worker_count = 2, .ipv4_connections = 1000, .ipv6_connections = 1000};
    options.port_ifindexes = {interface_facts(interface_).ifindex};
    return options;
  }

  void open_pins() {
    Result<Pins> pins = Pins::open(pin_directory());
    ASSERT_TRUE(pins.ok()) << pins.error().message;
    pins_ = std::make_unique<Pins>(std::move(pins).value());
  }

  void open_memory(const XdpMemoryOptions &options) {
    if (!pins_) {
      ASSERT_NO_FATAL_FAILURE(open_pins());
    }
    Result<XdpMemory> memory = sluice::open_memory(options, *pins_);
    ASSERT_TRUE(memory.ok()) << memory.error().message;
    memory_ = std::move(memory).value();
  }

  /// An engine with one port, port_name_ on interface_; not started.
  void create_engine(XdpModeChoice mode = XdpModeChoice::kAuto) {
    if (!memory_.program) {
      ASSERT_NO_FATAL_FAILURE(open_memory(memory_options()));
    }
    const std::vector<PortOptions> ports =
        parse_ports({"name=" + port_name_ + ",interface=" + interface_ + ",addresses=10.0.0.1/24"}).value();
    Result<XdpPreflight> preflight =
        make_preflight(ports, {interface_facts(interface_)}, {interface_}, probe_kernel().value());
    ASSERT_TRUE(preflight.ok()) << preflight.error().message;
    engine_ = std::make_unique<XdpEngine>(preflight.value(), mode, std::move(memory_.program), setup());
  }

  void start_engine(XdpModeChoice mode = XdpModeChoice::kAuto) {
    ASSERT_NO_FATAL_FAILURE(create_engine(mode));
    ASSERT_TRUE(engine_->install(tables_of(100)).ok());
    const Status started = engine_->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }

  /// As when the process is killed: everything goes but what is pinned.
  void forget_engine() {
    engine_.reset();
    memory_ = {};
    pins_.reset();
  }

  XdpEngineSetup setup() const {
    return {.pins = pins_.get(),
            .counters = memory_.counters.get(),
            .connections = memory_.connections.get(),
            .bring_over = memory_.bring_over};
  }

  /// One service with as many slots.
  static std::shared_ptr<const ForwardingTables> tables_of(uint32_t slots, uint64_t revision = 1) {
    SnapshotBuilder builder;
    builder.revision = revision;
    const uint32_t backend = builder.add_backend("web", "b1", "10.0.0.2");
    uint32_t service = 0;
    for (uint32_t left = slots; left > 0;) {
      const uint32_t now = std::min<uint32_t>(left, 65536);
      service = builder.add_service("web", builder.add_pool({backend}, now));
      left -= now;
    }
    builder.add_vip("198.51.100.10", {{80, 80, service}});
    auto tables = std::make_shared<ForwardingTables>();
    const AlignedBytes bytes = builder.build();
    auto snapshot = MappedSnapshot::from_bytes(bytes);
    EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
    tables->snapshot = snapshot.value();
    tables->egress.resize(snapshot.value()->backends().size());
    return tables;
  }

  NetworkNamespaces network_;
  std::string port_name_ = "front";
  std::string interface_ = "port0";
  TemporaryDirectory directory_;
  std::unique_ptr<Pins> pins_;
  XdpMemory memory_;
  std::unique_ptr<XdpEngine> engine_;
};

}  // namespace sluice

#endif
