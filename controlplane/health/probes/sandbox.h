// Where the commands of health checks run: bubblewrap's command line.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_SANDBOX_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_SANDBOX_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// The descriptor on which the sandbox says how the command ended.
inline constexpr int kSandboxReport = 3;

/// Who a command runs as: root's are nobody's (user and group 65534).
enum class SandboxOwner : uint8_t { kCaller, kNobody };

/// kCaller unless this process is root's.
SandboxOwner sandbox_owner();

/// The command line that runs `command` in a sandbox: /usr, a few files of /etc and `readable` to read; an
/// empty /tmp of its own to write; namespaces of its own but for the network; no privileges; limits on
/// its CPU time, memory, processes and files; and the kernel takes it before all others when its memory is
/// used up. All of it ends with the process group that it is started in,
/// and at the latest a little after `timeout`.
std::vector<std::string> sandbox_command_line(const std::vector<std::string> &command,
                                              const std::vector<std::string> &readable,
                                              std::chrono::milliseconds timeout, SandboxOwner owner);

/// The command's exit status, as a shell has it (128 and the signal's number), out of what the sandbox wrote
/// to kSandboxReport; nothing: it could not be made.
std::optional<int> sandboxed_exit_status(std::string_view report);

/// Why the sandbox could not execute its command, "/usr/x: No such file or directory", by what was written to
/// standard error; nothing: it did.
std::optional<std::string_view> why_not_executed(int exit_status, std::string_view output);

}  // namespace sluice

#endif
