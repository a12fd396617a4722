#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/confinement.h"

namespace sluice {
namespace {

/// What a child process, which does `work` and has no way back from it, has to say; empty: it is content.
std::string said_by_child(const std::function<std::string()> &work) {
  std::array<int, 2> ends = {};
  if (::pipe(ends.data()) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string said = work();
    (void)!::write(ends[1], said.data(), said.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  std::array<char, 4096> part = {};
  for (ssize_t size = 0; (size = ::read(ends[0], part.data(), part.size())) > 0;)
    said.append(part.data(), static_cast<size_t>(size));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? said : "the child was killed by signal " + std::to_string(WTERMSIG(status));
}

/// "CapPrm CapEff CapBnd NoNewPrivs Seccomp" of each thread, a line each.
std::string privileges() {
  std::string lines;
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    std::string line;
    std::string values;
    while (std::getline(status, line))
      for (const std::string_view name :
           {"CapPrm:\t", "CapEff:\t", "CapBnd:\t", "Seccomp:\t", "NoNewPrivs:\t"})
        if (line.starts_with(name)) values += line.substr(name.size()) + " ";
    lines += values + "\n";
  }
  return lines;
}

/// A thread that waits until the end, in a system call or in none.
class Waiting {
 public:
  enum class Where { kInKernel, kPolling };
  explicit Waiting(Where where)
      : thread_([this, where] {
          while (!stop_)
            if (where == Where::kInKernel) ::usleep(1000);
        }) {}
  ~Waiting() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

constexpr std::array kNetAdmin = {CAP_NET_ADMIN};

TEST(Confinement, every_thread_gives_up_all_capabilities_but_those_that_are_kept) {
  EXPECT_EQ(said_by_child([] {
              const Waiting polling(Waiting::Where::kPolling);
              const Waiting sleeping(Waiting::Where::kInKernel);
              const Status done = keep_capabilities(kNetAdmin);
              return done.ok() ? privileges() : done.error().message;
            }),
            "0000000000001000 0000000000001000 0000000000000000 0 0 \n"
            "0000000000001000 0000000000001000 0000000000000000 0 0 \n"
            "0000000000001000 0000000000001000 0000000000000000 0 0 \n");
}

TEST(Confinement, what_was_given_up_does_not_come_back_and_more_can_go) {
  EXPECT_EQ(said_by_child([] {
              const std::array both = {CAP_NET_ADMIN, CAP_BPF};
              for (const std::span<const int> kept :
                   {std::span<const int>(kNetAdmin), std::span<const int>(both), std::span<const int>()})
                if (const Status done = keep_capabilities(kept); !done.ok()) return done.error().message;
              return privileges();
            }),
            "0000000000000000 0000000000000000 0000000000000000 0 0 \n");
}

TEST(Confinement, a_thread_that_blocks_signals_is_named) {
  const std::string said = said_by_child([] {
    std::atomic<bool> blocks{false};
    std::thread deaf([&blocks] {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      ::pthread_setname_np(::pthread_self(), "deaf");
      blocks = true;
      for (;;) ::usleep(1000);
    });
    deaf.detach();
    while (!blocks) ::usleep(100);
    const Status done = keep_capabilities(kNetAdmin);
    return done.ok() ? "it did" : done.error().message;
  });
  EXPECT_NE(said.find("(\"deaf\") keeps"), std::string::npos) << said;
}

TEST(Confinement, filter_holds_for_every_thread) {
  const std::string said = said_by_child([] {
    const Waiting polling(Waiting::Where::kPolling);
    const Status done = filter_system_calls();
    return done.ok() ? privileges() : done.error().message;
  });
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
  for (size_t line = 0; line < said.size(); line = said.find('\n', line) + 1)
    EXPECT_EQ(said.substr(said.find('\n', line) - 4, 4), "1 2 ") << said;
}

struct Refused {
  const char *what;
  std::function<long()> call;
};

TEST(Confinement, what_no_dataplane_does_is_refused) {
  const std::array<Refused, 12> calls = {{
      {"execve",
       [] {
         std::array<char *, 1> none = {nullptr};
         return ::execve("/bin/true", none.data(), none.data());
       }},
      {"fork", [] { return ::syscall(SYS_fork); }},
      {"clone of a process",
       [] { return ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr); }},
      {"unshare", [] { return ::unshare(CLONE_NEWUSER); }},
      {"mount", [] { return ::mount(nullptr, "/nowhere", nullptr, MS_BIND, nullptr); }},
      {"ptrace", [] { return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"kill", [] { return ::kill(::getppid(), 0); }},
      {"packet socket", [] { return ::socket(AF_PACKET, SOCK_RAW, 0); }},
      {"raw socket", [] { return ::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }},
      {"stream", [] { return ::socket(AF_INET6, SOCK_STREAM, 0); }},
      {"executable memory",
       [] {
         void *made = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return made == MAP_FAILED ? -1L : 0L;
       }},
      {"memory that becomes executable",
       [] {
         void *made = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return ::mprotect(made, 4096, PROT_READ | PROT_EXEC);
       }},
  }};
  for (const Refused &refused : calls) {
    EXPECT_EQ(said_by_child([&refused]() -> std::string {
                if (const Status done = filter_system_calls(); !done.ok()) return done.error().message;
                errno = 0;
                if (refused.call() != -1) return "allowed";
                return errno == EPERM ? "" : std::to_string(errno);
              }),
              "")
        << refused.what;
  }
}

TEST(Confinement, what_a_dataplane_does_goes_on) {
  EXPECT_EQ(said_by_child([]() -> std::string {
              if (const Status done = filter_system_calls(); !done.ok()) return done.error().message;
              bool ran = false;
              std::thread thread([&ran] { ran = true; });
              thread.join();
              if (!ran) return "no thread";
              for (const auto &[family, type] :
                   {std::pair(AF_UNIX, int{SOCK_SEQPACKET}), std::pair(AF_NETLINK, int{SOCK_RAW}),
                    std::pair(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)}) {
                const int fd = ::socket(family, type, 0);
                if (fd < 0) return "no socket of family " + std::to_string(family);
                ::close(fd);
              }
              void *made = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return made == MAP_FAILED ? "no memory" : "";
            }),
            "");
}

TEST(Confinement, capabilities_are_named) {
  EXPECT_EQ(capability_names(std::array{CAP_NET_ADMIN, CAP_BPF}), "cap_net_admin, cap_bpf");
  EXPECT_EQ(capability_names({}), "none");
}

}  // namespace
}  // namespace sluice
