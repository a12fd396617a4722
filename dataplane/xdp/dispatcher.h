// libxdp's dispatcher: several XDP programs on one interface, one after the other as long as they pass the
// packet. The engine's place in it is an entry (bpf/shared_entry.bpf.c) that jumps to a program; what it
// jumps to is replaced in one step, without libxdp.
#ifndef SLUICE_XDP_DISPATCHER_H
#define SLUICE_XDP_DISPATCHER_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"
#include "dataplane/xdp/attachment.h"

namespace sluice {

struct DispatchedProgram {
  uint32_t id = 0;
  std::string name;
};

struct Dispatcher {
  XdpMode mode = XdpMode::kNative;
  std::vector<DispatchedProgram> programs;  // in their order
};

/// "xdp_filter" (id 7), "sluice_entry" (id 9)
std::string names_of(const std::vector<DispatchedProgram> &programs);

/// The dispatcher on an interface, if there is one.
/// Errors: there is one, and libxdp cannot tell what it calls (its files are in another bpffs, say).
[[nodiscard]] Result<std::optional<Dispatcher>> dispatcher_on(const std::string &interface, uint32_t ifindex);

/// Why there can be no entry in a dispatcher on this host; empty if there can. It is tried with libxdp's own:
/// whether the kernel lets the entry replace a function of it.
std::string why_no_dispatcher();

/// The engine's entry. It is in the dispatcher until it is removed, whether or not the descriptors are open.
struct DispatcherEntry {
  UniqueFd program;
  UniqueFd jump;  // the map of where it jumps to; empties itself when it is neither open nor pinned
  XdpMode mode = XdpMode::kNative;
  std::string why_generic;  // the driver's refusal; empty: native, or generic by what is wanted or there
};

/// Puts an entry that jumps to `program_fd` into the interface's dispatcher, or into one that is made. The
/// mode is that of the dispatcher that is there, else native if the driver can. Errors: the dispatcher is in
/// another mode than is wanted, or what libxdp says.
[[nodiscard]] Result<DispatcherEntry> add_entry(int program_fd, const AttachmentPlace &place);

/// Whether the program can stand behind the jump: it needs the same frame buffers.
bool fits_behind(int jump_fd, int program_fd);

/// Each packet runs what was there before, or this.
[[nodiscard]] Status put_behind(int jump_fd, int program_fd);

/// The identifier of the program that the jump leads to; 0: none.
uint32_t program_behind(int jump_fd);

/// The interface of this network namespace whose dispatcher calls the program; 0: none.
uint32_t interface_of_entry(uint32_t program_id);

/// Whether no dispatcher on the interface calls the program. When libxdp cannot tell, somebody may just be
/// exchanging the dispatcher: no.
bool is_taken_out(uint32_t program_id, const std::string &interface, uint32_t ifindex);

/// Takes the entry out of its dispatcher, and the dispatcher with it if it calls nothing else, and returns
/// when no packet runs through it. Without a dispatcher that calls it, only what it jumps to is taken away.
/// Errors: what libxdp says; the entry is as before then.
[[nodiscard]] Status remove_entry(const DispatcherEntry &entry);

/// Takes out the engine's entries that jump to nothing, of this network namespace: those of a process that
/// was killed before it had pinned what they jump to, or when that was another's already. They pass
/// everything. Errors: of the last that cannot be taken out; the others are.
[[nodiscard]] Status remove_dead_entries();

}  // namespace sluice

#endif
