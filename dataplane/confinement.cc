#include "dataplane/confinement.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongestWait{2};

using CapabilityMask = uint64_t;

// Capabilities are each thread's own, and the kernel lets no thread change another's (glibc does it for user
// and group alone; libcap's psx knows only threads that were started with it linked in, which DPDK's are
// not). So each is interrupted and gives up its own. What a signal's handler reads cannot come as an
// argument.
std::atomic<CapabilityMask> kept_by_all{0};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

/// Of the calling thread. Only system calls: it runs in a signal's handler.
void give_up_capabilities(int /*signal*/) {
  const int error_before = errno;
  for (int capability = 0; capability < 64; capability++)  // ends with an error where there are no more
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets = {};
  if (::capget(&header, sets.data()) == 0) {
    const CapabilityMask kept = kept_by_all.load();
    for (size_t word = 0; word < sets.size(); word++) {
      sets[word].permitted &= static_cast<uint32_t>(kept >> (32 * word));
      sets[word].effective = sets[word].permitted;
      sets[word].inheritable = 0;
    }
    ::capset(&header, sets.data());
  }
  errno = error_before;
}

struct Thread {
  pid_t id = 0;
  std::string name;
  CapabilityMask permitted = 0;
};

std::vector<Thread> threads() {
  std::vector<Thread> found;
  std::error_code ignored;
  for (const auto &entry : fs::directory_iterator("/proc/self/task", ignored)) {
    Thread thread{.id = std::stoi(entry.path().filename().string())};
    std::ifstream status(entry.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Name:\t")) thread.name = line.substr(6);
      if (line.starts_with("CapPrm:\t")) thread.permitted = std::stoull(line.substr(8), nullptr, 16);
    }
    found.push_back(std::move(thread));
  }
  return found;
}

/// The signal's handling of before, once this ends.
class SignalHandling {
 public:
  SignalHandling(int signal, void (*handler)(int)) : signal_(signal) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    ::sigaction(signal_, &action, nullptr);
  }
  SignalHandling(const SignalHandling &) = delete;
  SignalHandling &operator=(const SignalHandling &) = delete;
  // A thread may still have it before it: the default would end the process.
  ~SignalHandling() {
    struct sigaction action = {};
    action.sa_handler = SIG_IGN;
    ::sigaction(signal_, &action, nullptr);
  }

 private:
  int signal_;
};

// What both engines, their libraries and the C library do while they forward, follow the kernel, take
// snapshots, load programs anew and stop. Of those in allow_with_conditions() arguments are looked at, too.
constexpr std::array kFileCalls = {
    "read",         "write",     "readv",      "writev",     "pread64",  "pwrite64",   "open",
    "openat",       "close",     "lseek",      "stat",       "fstat",    "lstat",      "newfstatat",
    "statx",        "access",    "faccessat",  "faccessat2", "readlink", "readlinkat", "rename",
    "renameat",     "renameat2", "unlink",     "unlinkat",   "mkdir",    "mkdirat",    "rmdir",
    "ftruncate",    "fallocate", "fsync",      "fdatasync",  "flock",    "fcntl",      "dup",
    "dup2",         "dup3",      "getdents64", "statfs",     "fstatfs",  "chmod",      "fchmod",
    "fchmodat",     "chown",     "fchown",     "fchownat",   "umask",    "getcwd",     "pipe2",
    "memfd_create", "fadvise64", "umount2"};
constexpr std::array kMemoryCalls = {"brk",           "munmap",        "mremap",    "madvise", "msync",
                                     "mlock",         "mlock2",        "munlock",   "mincore", "mbind",
                                     "get_mempolicy", "set_mempolicy", "membarrier"};
constexpr std::array kThreadCalls = {"futex",
                                     "set_robust_list",
                                     "get_robust_list",
                                     "rseq",
                                     "set_tid_address",
                                     "arch_prctl",
                                     "exit",
                                     "exit_group",
                                     "gettid",
                                     "getpid",
                                     "getppid",
                                     "sched_yield",
                                     "sched_getaffinity",
                                     "sched_setaffinity",
                                     "sched_getparam",
                                     "sched_getscheduler",
                                     "getcpu",
                                     "nanosleep",
                                     "clock_nanosleep",
                                     "clock_gettime",
                                     "clock_getres",
                                     "gettimeofday",
                                     "time",
                                     "restart_syscall",
                                     "rt_sigaction",
                                     "rt_sigprocmask",
                                     "rt_sigreturn",
                                     "rt_sigtimedwait",
                                     "sigaltstack",
                                     "signalfd4",
                                     "prctl",
                                     "capget",
                                     "capset",
                                     "getrandom",
                                     "uname",
                                     "sysinfo",
                                     "getrlimit",
                                     "prlimit64",
                                     "getrusage",
                                     "getuid",
                                     "geteuid",
                                     "getgid",
                                     "getegid"};
constexpr std::array kWaitingCalls = {"epoll_create1",  "epoll_ctl", "epoll_wait",     "epoll_pwait",
                                      "epoll_pwait2",   "poll",      "ppoll",          "select",
                                      "pselect6",       "eventfd2",  "timerfd_create", "timerfd_settime",
                                      "timerfd_gettime"};
constexpr std::array kNetworkCalls = {"bind",        "connect",     "listen",     "accept",     "accept4",
                                      "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto",
                                      "sendmsg",     "sendmmsg",    "recvfrom",   "recvmsg",    "recvmmsg",
                                      "shutdown",    "ioctl",       "bpf"};

struct FilterDeleter {
  void operator()(void *filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, FilterDeleter>;

/// Returns 0 or a negative errno, as the others. A name that this architecture has not is none to allow.
int allow(scmp_filter_ctx filter, std::span<const char *const> names) {
  for (const char *name : names) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number < 0) continue;
    const int error = ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    if (error != 0) return error;
  }
  return 0;
}

int allow_if(scmp_filter_ctx filter, int number, std::initializer_list<scmp_arg_cmp> conditions) {
  const std::vector<scmp_arg_cmp> all(conditions);
  return ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, static_cast<unsigned>(all.size()),
                                  all.data());
}

int allow_with_conditions(scmp_filter_ctx filter) {
  constexpr unsigned kProtection = 2;  // argument
  const auto is_not_executable = SCMP_CMP64(kProtection, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
  int error = 0;
  for (const int number : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    if (error == 0) error = allow_if(filter, number, {is_not_executable});
  // Threads, no processes. clone3 has its flags where a filter cannot look; told that there is none, the C
  // library takes clone.
  if (error == 0)
    error =
        allow_if(filter, SCMP_SYS(clone), {SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  if (error == 0) error = ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  const auto own_process = static_cast<scmp_datum_t>(::getpid());
  if (error == 0) error = allow_if(filter, SCMP_SYS(tgkill), {SCMP_CMP64(0, SCMP_CMP_EQ, own_process)});
  for (const scmp_datum_t family : {AF_UNIX, AF_NETLINK})
    if (error == 0) error = allow_if(filter, SCMP_SYS(socket), {SCMP_CMP64(0, SCMP_CMP_EQ, family)});
  // By which interfaces are asked for what netlink does not tell (ethtool).
  constexpr scmp_datum_t kTypeMask = 0xf;  // without SOCK_CLOEXEC and SOCK_NONBLOCK
  for (const scmp_datum_t family : {AF_INET, AF_INET6}) {
    if (error != 0) break;
    error = allow_if(
        filter, SCMP_SYS(socket),
        {SCMP_CMP64(0, SCMP_CMP_EQ, family), SCMP_CMP64(1, SCMP_CMP_MASKED_EQ, kTypeMask, SOCK_DGRAM)});
  }
  return error;
}

int set_attributes(scmp_filter_ctx filter) {
  // All threads at once; the search for a call's number by halves; and no mitigation of speculative stores,
  // which older kernels switch on with a filter: workers would pay for it with each packet.
  for (const auto &[attribute, value] :
       {std::pair(SCMP_FLTATR_CTL_TSYNC, 1U), std::pair(SCMP_FLTATR_CTL_OPTIMIZE, 2U),
        std::pair(SCMP_FLTATR_CTL_SSB, 1U)}) {
    const int error = ::seccomp_attr_set(filter, attribute, value);
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

Status keep_capabilities(std::span<const int> kept) {
  CapabilityMask mask = 0;
  for (const int capability : kept) mask |= CapabilityMask{1} << capability;
  kept_by_all.store(mask);
  give_up_capabilities(0);
  const int signal = SIGRTMAX - 1;
  const SignalHandling handling(signal, give_up_capabilities);
  const Clock::time_point deadline = Clock::now() + kLongestWait;
  std::set<pid_t> asked;  // once each: signals of this kind queue up
  for (;;) {
    // Anew in each turn: a thread that had not given up anything yet may have started another one.
    std::vector<Thread> rest = threads();
    std::erase_if(rest, [mask](const Thread &thread) { return (thread.permitted & ~mask) == 0; });
    if (rest.empty()) return Done{};
    if (Clock::now() >= deadline)
      return Error{fmt::format("capabilities: thread {} (\"{}\") keeps {:x} of them", rest.front().id,
                               rest.front().name, rest.front().permitted & ~mask)};
    for (const Thread &thread : rest)
      if (asked.insert(thread.id).second) ::syscall(SYS_tgkill, ::getpid(), thread.id, signal);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string capability_names(std::span<const int> capabilities) {
  std::string names;
  for (const int capability : capabilities) {
    const std::unique_ptr<char, int (*)(void *)> name(::cap_to_name(capability), ::cap_free);
    names += (names.empty() ? "" : ", ") + std::string(name ? name.get() : "?");
  }
  return names.empty() ? "none" : names;
}

Status filter_system_calls() {
  const Filter filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (!filter) return Error{"seccomp: out of memory"};
  int error = set_attributes(filter.get());
  for (const std::span<const char *const> names :
       {std::span<const char *const>(kFileCalls), std::span<const char *const>(kMemoryCalls),
        std::span<const char *const>(kThreadCalls), std::span<const char *const>(kWaitingCalls),
        std::span<const char *const>(kNetworkCalls)})
    if (error == 0) error = allow(filter.get(), names);
  if (error == 0) error = allow_with_conditions(filter.get());
  if (error == 0) error = ::seccomp_load(filter.get());
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (error != 0) return Error{fmt::format("seccomp: the filter cannot be set: {}", std::strerror(-error))};
  return Done{};
}

}  // namespace sluice
