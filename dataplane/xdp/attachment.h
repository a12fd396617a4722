// XDP programs on interfaces: attaching by links, which can be pinned, and telling what is there.
#ifndef SLUICE_XDP_ATTACHMENT_H
#define SLUICE_XDP_ATTACHMENT_H

#include <cstdint>
#include <string>
#include <string_view>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"
#include "dataplane/xdp/forwarding_program.h"

namespace sluice {

enum class XdpMode {
  kNative,  // by the driver, before the kernel makes a buffer of its own
  kGeneric  // by the kernel's stack, for any driver, slower
};

/// "native" or "generic".
std::string_view mode_text(XdpMode mode);

/// What the operator wants.
enum class XdpModeChoice { kAuto, kNative, kGeneric };

/// The XDP program on an interface.
struct InterfaceProgram {
  uint32_t id = 0;  // 0: none
  std::string name;
  XdpMode mode = XdpMode::kNative;
  uint32_t link_id = 0;  // of the link that holds it there; 0: no link does (netlink)
};

/// The command that takes the program off the interface. What a link holds, ip(8) cannot take off.
std::string removal_command(const InterfaceProgram &program, const std::string &interface);

/// Errors: the kernel cannot say.
[[nodiscard]] Result<InterfaceProgram> program_on(const std::string &interface, uint32_t ifindex);

/// The program's identifier, 0 when the kernel cannot say.
uint32_t program_id(int program_fd);

/// The map of that name among those that a program uses; an invalid descriptor: none.
UniqueFd map_of_program(int program_fd, std::string_view name);

/// What a link holds.
struct LinkFacts {
  uint32_t ifindex = 0;  // 0: its interface is gone, or it was detached
  uint32_t program_id = 0;
};

/// Errors: the descriptor is no link of an XDP program.
[[nodiscard]] Result<LinkFacts> look_at_link(int link_fd);

/// A program on an interface, as long as the descriptor is open or pinned.
struct Attachment {
  UniqueFd link;
  XdpMode mode = XdpMode::kNative;
  std::string reason;  // of the mode
};

/// Where a program is to go, and how.
struct AttachmentPlace {
  std::string interface;
  uint32_t ifindex = 0;
  XdpModeChoice mode = XdpModeChoice::kAuto;
  FrameBuffers buffers = FrameBuffers::kOne;
};

/// What a driver that refuses a program was to agree to: "driver ice, MTU 3400, frames in one buffer".
std::string driver_facts(const std::string &interface, FrameBuffers buffers);

/// Attaches by a link: native where the driver can, else generic (kAuto), or only as chosen. The reason and
/// the errors tell what a driver refused: many drivers take some MTUs only from programs for frames in
/// several buffers. `buffers` are those that the program was loaded for. Errors: another program is on the
/// interface, the driver or the kernel refuses; they say what to do.
[[nodiscard]] Result<Attachment> attach(int program_fd, const std::string &interface, uint32_t ifindex,
                                        XdpModeChoice choice, FrameBuffers buffers = FrameBuffers::kOne);

/// Puts another program in the place of the link's: each packet runs one or the other.
[[nodiscard]] Status replace_program(int link_fd, int program_fd);

/// Returns when no packet is under way any more that was when it was called.
void wait_for_packets();

/// Takes the link's program from its interface and returns when no packet runs it any more. On an error
/// packets run as before.
[[nodiscard]] Status detach(int link_fd);

}  // namespace sluice

#endif
