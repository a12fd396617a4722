// Leftover XDP programs on a real interface, in a network namespace of the test's own. Needs root.
#include "dataplane/dpdk/leftover_program.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LeftoverProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    ASSERT_EQ(system("ip link add lo-a type veth peer name lo-b"), 0);
    ifindex_ = static_cast<int>(if_nametoindex("lo-a"));
  }

  /// A program that passes everything.
  static UniqueFd load(const char *name) {
    std::array<bpf_insn, 2> code = {};
    code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;  // r0 = XDP_PASS
    code[0].imm = XDP_PASS;
    code[1].code = BPF_JMP | BPF_EXIT;
    UniqueFd fd(bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", code.data(), code.size(), nullptr));
    EXPECT_TRUE(fd.valid()) << strerror(errno);
    return fd;
  }

  /// Attaches such a program; the descriptor that is returned holds it.
  UniqueFd attach(const char *name) const {
    UniqueFd fd = load(name);
    EXPECT_EQ(bpf_xdp_attach(ifindex_, fd.get(), 0, nullptr), 0);
    return fd;
  }

  uint32_t attached() const {
    uint32_t program = 0;
    bpf_xdp_query_id(ifindex_, 0, &program);
    return program;
  }

  int ifindex_ = 0;
};

/// Another process that holds a descriptor, for as long as this exists.
class Holder {
 public:
  explicit Holder(const UniqueFd & /*descriptor*/) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  Holder(const Holder &) = delete;
  Holder &operator=(const Holder &) = delete;
  ~Holder() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::string pid() const { return std::to_string(pid_); }

 private:
  pid_t pid_;
};

TEST_F(LeftoverProgram, nothing_to_do_without_a_program) {
  auto removed = remove_leftover_program("lo-a");
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed.value(), "");
}

TEST_F(LeftoverProgram, af_xdps_own_program_of_a_dead_process_is_removed) {
  attach("xsk_def_prog").reset(-1);
  ASSERT_NE(attached(), 0u);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_THAT(removed.value(), AllOf(HasSubstr("xsk_def_prog"), HasSubstr("lo-a")));
  EXPECT_EQ(attached(), 0u);
}

TEST_F(LeftoverProgram, a_program_in_use_stays) {
  Holder holder(attach("xsk_def_prog"));
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("in use by process " + holder.pid()),
                                             HasSubstr("ip link set dev lo-a xdp off")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverProgram, a_program_of_somebody_else_stays) {
  attach("firewall").reset(-1);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("\"firewall\""), HasSubstr("not AF_XDP's own")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverProgram, a_program_that_only_has_a_dispatchers_name_stays) {
  attach("xdp_dispatcher").reset(-1);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("\"xdp_dispatcher\""), HasSubstr("not AF_XDP's own")));
  EXPECT_NE(attached(), 0u);
}

/// libxdp's dispatcher with programs pinned as its components, as libxdp finds them again. They are not
/// linked into it, which some kernels refuse, but what is attached is told from the pins.
class LeftoverDispatcher : public LeftoverProgram {
 protected:
  void SetUp() override {
    LeftoverProgram::SetUp();
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("sluice-test", "/sys/fs/bpf", "bpf", 0, nullptr), 0) << strerror(errno);
    bpf_object *object = bpf_object__open_file(dispatcher_file().c_str(), nullptr);
    ASSERT_NE(object, nullptr) << dispatcher_file();
    object_.reset(object);
  }

  static std::string dispatcher_file() {
    for (const auto &entry : std::filesystem::directory_iterator("/usr/lib")) {
      std::filesystem::path file = entry.path() / "bpf" / "xdp-dispatcher.o";
      if (std::filesystem::exists(file)) return file;
    }
    return "xdp-dispatcher.o (package libxdp1)";
  }

  void attach_dispatcher(const std::vector<const char *> &components) {
    bpf_map *config = bpf_object__next_map(object_.get(), nullptr);
    size_t size = 0;
    auto *initial = static_cast<uint8_t *>(const_cast<void *>(bpf_map__initial_value(config, &size)));
    ASSERT_GT(size, 2u);
    // struct xdp_dispatcher_config: its magic, its version, how many programs.
    initial[0] = 236;
    initial[1] = 2;
    initial[2] = static_cast<uint8_t>(components.size());
    ASSERT_EQ(bpf_object__load(object_.get()), 0) << strerror(errno);
    UniqueFd dispatcher(fcntl(bpf_program__fd(bpf_object__next_program(object_.get(), nullptr)), F_DUPFD, 0));
    ASSERT_EQ(bpf_xdp_attach(ifindex_, dispatcher.get(), 0, nullptr), 0);
    std::string directory =
        "/sys/fs/bpf/xdp/dispatch-" + std::to_string(ifindex_) + "-" + std::to_string(attached());
    std::filesystem::create_directories(directory);
    for (size_t i = 0; i < components.size(); i++) {
      UniqueFd component = load(components[i]);
      for (const char *pinned : {"-prog", "-link"}) {
        std::string pin = directory + "/prog" + std::to_string(i) + pinned;
        ASSERT_EQ(bpf_obj_pin(component.get(), pin.c_str()), 0) << strerror(errno);
      }
    }
    object_.reset();
  }

  struct ObjectDeleter {
    void operator()(bpf_object *object) const { bpf_object__close(object); }
  };
  std::unique_ptr<bpf_object, ObjectDeleter> object_;
};

TEST_F(LeftoverDispatcher, with_af_xdps_own_programs_only_is_removed_with_its_pins) {
  ASSERT_NO_FATAL_FAILURE(attach_dispatcher({"xsk_def_prog"}));
  auto removed = remove_leftover_program("lo-a");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_THAT(removed.value(), HasSubstr("xsk_def_prog"));
  EXPECT_EQ(attached(), 0u);
  EXPECT_TRUE(std::filesystem::is_empty("/sys/fs/bpf/xdp"));
}

TEST_F(LeftoverDispatcher, with_somebody_elses_program_stays) {
  ASSERT_NO_FATAL_FAILURE(attach_dispatcher({"xdpfilt_alw_all"}));
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("xdpfilt_alw_all"), HasSubstr("not AF_XDP's own")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverDispatcher, with_somebody_elses_program_beside_af_xdps_stays) {
  ASSERT_NO_FATAL_FAILURE(attach_dispatcher({"xsk_def_prog", "firewall"}));
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("firewall"), HasSubstr("not AF_XDP's own")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverDispatcher, whose_component_a_process_holds_stays) {
  ASSERT_NO_FATAL_FAILURE(attach_dispatcher({"xsk_def_prog"}));
  std::string pin = "/sys/fs/bpf/xdp/dispatch-" + std::to_string(ifindex_) + "-" + std::to_string(attached());
  UniqueFd component(bpf_obj_get((pin + "/prog0-prog").c_str()));
  ASSERT_TRUE(component.valid());
  Holder holder(component);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, HasSubstr("in use by process " + holder.pid()));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverProgram, an_interface_that_is_not_there_is_an_error) {
  auto removed = remove_leftover_program("nosuch");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, HasSubstr("\"nosuch\" does not exist"));
}

}  // namespace
}  // namespace sluice
