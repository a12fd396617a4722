// What the running program gives up: it starts with root's privileges, for interfaces, memory and BPF, and
// forwards with the few that are left. docs/dataplane.md lists them, and why each is.
#ifndef SLUICE_DATAPLANE_CONFINEMENT_H
#define SLUICE_DATAPLANE_CONFINEMENT_H

#include <span>
#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

/// Leaves every thread of the process, also those that libraries have started, no capability but those of
/// `kept` (CAP_... of linux/capability.h) that it has; the bounding set becomes empty. Can be called again
/// with fewer. Uses the signal SIGRTMAX - 1 for a moment. Errors: a thread, which is named, still has others
/// after 2 s, as one that blocks all signals.
[[nodiscard]] Status keep_capabilities(std::span<const int> kept);

/// "cap_net_admin, cap_bpf"; "none".
std::string capability_names(std::span<const int> capabilities);

/// Refuses every thread (EPERM), for good, each system call that a running dataplane does not make: no other
/// program, no process, no memory of others, no mounts, namespaces, modules or clocks, no executable memory,
/// no sockets but of the kernel (netlink), the host (Unix) and datagrams. Sets no_new_privs. Errors: the
/// kernel has no seccomp filters.
[[nodiscard]] Status filter_system_calls();

}  // namespace sluice

#endif
