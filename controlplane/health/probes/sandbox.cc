#include "controlplane/health/probes/sandbox.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace sluice {

namespace {

constexpr size_t kMib = size_t{1} << 20;
constexpr size_t kDataBytes = 256 * kMib;  // of each process
// Of each process: programs written in Go reserve far more than they use.
constexpr size_t kAddressSpaceBytes = 4096 * kMib;
constexpr size_t kTemporaryBytes = 16 * kMib;
constexpr size_t kSharedMemoryBytes = kMib;
constexpr int kProcesses = 64;  // and threads
constexpr int kOpenFiles = 256;

// The programs, by their paths: what PATH says is the caller's.
constexpr const char *kChoom = "/usr/bin/choom";
constexpr const char *kSetpriv = "/usr/bin/setpriv";
constexpr const char *kBubblewrap = "/usr/bin/bwrap";
constexpr const char *kTimeout = "/usr/bin/timeout";
constexpr const char *kPrlimit = "/usr/bin/prlimit";

// What programs of all kinds read to run, to look up names, and to verify certificates. Not the rest of
// /etc: a command may run as the very user that may read Sluice's own secrets there.
constexpr std::array<const char *, 13> kEtc = {
    "/etc/alternatives", "/etc/ca-certificates", "/etc/group",          "/etc/hosts",     "/etc/ld.so.cache",
    "/etc/localtime",    "/etc/nsswitch.conf",   "/etc/passwd",         "/etc/protocols", "/etc/resolv.conf",
    "/etc/services",     "/etc/ssl/certs",       "/etc/ssl/openssl.cnf"};

using Words = std::vector<std::string>;

void add(Words *words, std::initializer_list<std::string> more) {
  words->insert(words->end(), more.begin(), more.end());
}

// A little more than the check's time.
int64_t longest_seconds(std::chrono::milliseconds timeout) {
  return std::chrono::ceil<std::chrono::seconds>(timeout).count() + 1;
}

// There is no bound on the memory of all of its processes together but that the kernel, when it has none
// left, takes these before any other: 1000 is the most there is (proc(5), oom_score_adj).
void add_first_to_go(Words *words) { add(words, {kChoom, "--adjust=1000", "--"}); }

// What ends all of it when the caller, which would do so sooner, has died: also a sandbox that is still being
// made. `timeout` kills the process group that it leads.
void add_end(Words *words, std::chrono::milliseconds timeout) {
  add(words, {kTimeout, "--signal=KILL", std::to_string(longest_seconds(timeout))});
}

// The kernel counts root's processes against no limit, so root's commands become somebody else's.
void add_owner(Words *words, SandboxOwner owner) {
  if (owner == SandboxOwner::kCaller) return;
  add(words, {kSetpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--"});
}

void add_namespaces(Words *words) {
  add(words, {kBubblewrap, "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc",
              "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sluice-check", "--cap-drop", "ALL",
              "--die-with-parent", "--json-status-fd", std::to_string(kSandboxReport)});
}

// In this order: a later one may lie within an earlier one.
void add_files(Words *words, const Words &readable) {
  add(words, {"--ro-bind", "/usr", "/usr"});
  for (const char *link : {"bin", "sbin", "lib", "lib64"})
    add(words, {"--symlink", std::string("usr/") + link, std::string("/") + link});
  for (const char *file : kEtc) add(words, {"--ro-bind-try", file, file});
  add(words, {"--proc", "/proc", "--dev", "/dev"});
  add(words, {"--size", std::to_string(kSharedMemoryBytes), "--tmpfs", "/dev/shm"});
  add(words, {"--size", std::to_string(kTemporaryBytes), "--tmpfs", "/tmp"});
  for (const std::string &path : readable) add(words, {"--ro-bind", path, path});
  add(words, {"--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"});
}

// Set within the user namespace, whose processes are counted on their own.
void add_limits(Words *words, std::chrono::milliseconds timeout) {
  const std::string cpu_seconds = std::to_string(longest_seconds(timeout));
  add(words, {kPrlimit, "--cpu=" + cpu_seconds, "--data=" + std::to_string(kDataBytes),
              "--as=" + std::to_string(kAddressSpaceBytes), "--nproc=" + std::to_string(kProcesses),
              "--nofile=" + std::to_string(kOpenFiles), "--fsize=" + std::to_string(kTemporaryBytes),
              "--core=0", "--"});
}

}  // namespace

SandboxOwner sandbox_owner() { return geteuid() == 0 ? SandboxOwner::kNobody : SandboxOwner::kCaller; }

Words sandbox_command_line(const Words &command, const Words &readable, std::chrono::milliseconds timeout,
                           SandboxOwner owner) {
  Words words;
  add_first_to_go(&words);
  add_end(&words, timeout);
  add_owner(&words, owner);
  add_namespaces(&words);
  add_files(&words, readable);
  add_limits(&words, timeout);
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

std::optional<int> sandboxed_exit_status(std::string_view report) {
  for (size_t begin = 0; begin < report.size();) {
    const size_t end = std::min(report.find('\n', begin), report.size());
    const auto line = nlohmann::json::parse(report.substr(begin, end - begin), nullptr, false);
    if (line.is_object() && line.contains("exit-code") && line["exit-code"].is_number_integer())
      return line["exit-code"].get<int>();
    begin = end + 1;
  }
  return std::nullopt;
}

std::optional<std::string_view> why_not_executed(int exit_status, std::string_view output) {
  constexpr int kNotExecutable = 126;  // POSIX.1-2017, Shell & Utilities 2.8.2
  constexpr int kNotFound = 127;
  constexpr std::string_view kPrlimitSays = "prlimit: failed to execute ";
  const bool may_be = exit_status == kNotExecutable || exit_status == kNotFound;
  if (!may_be || !output.starts_with(kPrlimitSays)) return std::nullopt;
  return output.substr(kPrlimitSays.size());
}

}  // namespace sluice
