// A program whose main thread is watched, system call by system call (ptrace), and which can be killed before
// one of them is carried out.
#ifndef SLUICE_TESTS_XDP_TRACED_PROCESS_H
#define SLUICE_TESTS_XDP_TRACED_PROCESS_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {

class TracedProcess {
 public:
  /// Starts it, stopped before its first call, with its output in the file `log`. It ends with this object.
  TracedProcess(const std::vector<std::string> &arguments, const std::filesystem::path &log);
  TracedProcess(const TracedProcess &) = delete;
  TracedProcess &operator=(const TracedProcess &) = delete;
  ~TracedProcess() { kill(); }

  /// Goes on until it enters a call that changes something which outlives a process, or writes `text`; says
  /// what: "sendmsg RTM_NEWROUTE", "unlink link-front". Nothing: it has ended.
  std::optional<std::string> next_change(const std::string &text);

  /// Carries the call out; whether it succeeded.
  bool finish_call();

  /// Kills it as it is, and waits until it has let go of what it had.
  void kill();

  /// What waitpid() said of its end.
  int exit_status() const { return status_; }

 private:
  using Call = __ptrace_syscall_info;

  std::optional<Call> next_stop();
  std::string change_of(uint64_t number, const uint64_t *arguments) const;
  std::string bpf_change(uint64_t command, uint64_t attributes) const;
  std::string file_of(uint64_t fd) const;
  std::string name_at(uint64_t address) const;
  std::string bytes_at(uint64_t address, size_t size) const;
  template <typename T>
  T value_at(uint64_t address) const {
    T value = {};
    const std::string bytes = bytes_at(address, sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  pid_t pid_ = -1;
  int status_ = 0;
  UniqueFd memory_;
};

inline TracedProcess::TracedProcess(const std::vector<std::string> &arguments,
                                    const std::filesystem::path &log) {
  std::vector<char *> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string &text : arguments) argv.push_back(const_cast<char *>(text.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  ::waitpid(pid_, &status_, 0);  // stopped by its exec
  // Its other threads run freely.
  ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  memory_ = UniqueFd(::open(("/proc/" + std::to_string(pid_) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
}

inline void TracedProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, &status_, 0) == pid_ && WIFSTOPPED(status_)) continue;
  pid_ = -1;
}

/// Its next entry into a call, or return from one.
inline std::optional<TracedProcess::Call> TracedProcess::next_stop() {
  constexpr int kAtCall = SIGTRAP | 0x80;
  long signal = 0;
  while (pid_ >= 0) {
    ::ptrace(PTRACE_SYSCALL, pid_, nullptr, signal);
    if (::waitpid(pid_, &status_, 0) != pid_ || !WIFSTOPPED(status_)) {
      pid_ = -1;
      break;
    }
    if (WSTOPSIG(status_) == kAtCall) {
      Call call = {};
      ::ptrace(PTRACE_GET_SYSCALL_INFO, pid_, sizeof(call), &call);
      return call;
    }
    signal = WSTOPSIG(status_);
  }
  return std::nullopt;
}

inline std::optional<std::string> TracedProcess::next_change(const std::string &text) {
  while (const std::optional<Call> call = next_stop()) {
    if (call->op != PTRACE_SYSCALL_INFO_ENTRY) continue;
    if (call->entry.nr == SYS_write &&
        bytes_at(call->entry.args[1], call->entry.args[2]).find(text) != std::string::npos)
      return text;
    std::string change = change_of(call->entry.nr, call->entry.args);
    if (!change.empty()) return change;
  }
  return std::nullopt;
}

inline bool TracedProcess::finish_call() {
  const std::optional<Call> call = next_stop();
  return call && call->op == PTRACE_SYSCALL_INFO_EXIT && call->exit.is_error == 0;
}

/// What a call is to change that lasts, "" for most. A bpffs that is mounted is not counted, nor what is
/// written into maps and files that are mapped: those are no calls.
inline std::string TracedProcess::change_of(uint64_t number, const uint64_t *arguments) const {
  const auto message = [this](const char *call, uint64_t address) -> std::string {
    switch (value_at<nlmsghdr>(address).nlmsg_type) {
      case RTM_NEWADDR:
        return std::string(call) + " RTM_NEWADDR";
      case RTM_DELADDR:
        return std::string(call) + " RTM_DELADDR";
      case RTM_NEWROUTE:
        return std::string(call) + " RTM_NEWROUTE";
      case RTM_DELROUTE:
        return std::string(call) + " RTM_DELROUTE";
      case RTM_NEWLINK:
        return std::string(call) + " RTM_NEWLINK";
      case RTM_SETLINK:
        return std::string(call) + " RTM_SETLINK";
      case RTM_DELLINK:
        return std::string(call) + " RTM_DELLINK";
      default:
        return "";
    }
  };
  const auto named = [](const char *call, const std::string &name) {
    // Whoever comes next makes its own of the first two.
    return name.empty() || name == "control" || name.starts_with("sluice-") ? "" : call + (" " + name);
  };
  switch (number) {
    case SYS_bpf:
      return bpf_change(arguments[0], arguments[1]);
    case SYS_sendto:
      return message("sendto", arguments[1]);
    case SYS_sendmsg: {
      const auto header = value_at<msghdr>(arguments[1]);
      return message(
          "sendmsg",
          value_at<uint64_t>(reinterpret_cast<uint64_t>(header.msg_iov)));  // iov_base of the first
    }
    case SYS_ioctl:
      return arguments[1] == TUNSETPERSIST   ? "ioctl TUNSETPERSIST"
             : arguments[1] == SIOCSIFFLAGS  ? "ioctl SIOCSIFFLAGS"
             : arguments[1] == SIOCSIFHWADDR ? "ioctl SIOCSIFHWADDR"
                                             : "";
    case SYS_rename:
      return named("rename", name_at(arguments[0]));
    case SYS_unlink:
      return named("unlink", name_at(arguments[0]));
    case SYS_rmdir:
      return named("rmdir", name_at(arguments[0]));
    case SYS_umount2:
      return named("umount2", name_at(arguments[0]));
    case SYS_ftruncate:
      return named("ftruncate", file_of(arguments[0]));
    case SYS_fallocate:
      return named("fallocate", file_of(arguments[0]));
    default:
      return "";
  }
}

inline std::string TracedProcess::bpf_change(uint64_t command, uint64_t attributes) const {
  switch (command) {
    case BPF_OBJ_PIN:
      return "bpf BPF_OBJ_PIN " + name_at(value_at<uint64_t>(attributes));
    case BPF_LINK_CREATE:
      return "bpf BPF_LINK_CREATE";
    case BPF_LINK_UPDATE:
      return "bpf BPF_LINK_UPDATE";
    case BPF_LINK_DETACH:
      return "bpf BPF_LINK_DETACH";
    default:
      return "";
  }
}

/// The last part of a descriptor's path; "" for memory of the process's own.
inline std::string TracedProcess::file_of(uint64_t fd) const {
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::read_symlink(
      "/proc/" + std::to_string(pid_) + "/fd/" + std::to_string(static_cast<int>(fd)), ignored);
  return path.string().starts_with("/memfd:") ? "" : path.filename().string();
}

/// The last part of a path in its memory, without the identifier that it may end with.
inline std::string TracedProcess::name_at(uint64_t address) const {
  const std::string text = bytes_at(address, 256);
  std::string name = std::filesystem::path(text.substr(0, text.find('\0'))).filename();
  if (name.starts_with("tail-calls-")) name = name.ends_with('+') ? "tail-calls+" : "tail-calls";
  return name;
}

inline std::string TracedProcess::bytes_at(uint64_t address, size_t size) const {
  std::array<char, 512> bytes = {};
  const ssize_t read =
      ::pread(memory_.get(), bytes.data(), std::min(size, bytes.size()), static_cast<off_t>(address));
  return {bytes.data(), static_cast<size_t>(std::max<ssize_t>(read, 0))};
}

}  // namespace sluice

#endif
