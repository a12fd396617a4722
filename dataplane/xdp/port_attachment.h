// How a port's packets come to the engine's program: by a link of its own on the interface, or by an entry
// under libxdp's dispatcher, beside other programs.
#ifndef SLUICE_XDP_PORT_ATTACHMENT_H
#define SLUICE_XDP_PORT_ATTACHMENT_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "dataplane/abi/result.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/dispatcher.h"
#include "dataplane/xdp/pins.h"

namespace sluice {

enum class PortSharing { kAlone, kDispatcher };

class PortAttachment {
 public:
  /// Errors: as attach() and add_entry().
  [[nodiscard]] static Result<PortAttachment> make(int program_fd, PortSharing sharing,
                                                   const AttachmentPlace &place);

  /// What is pinned for the port.
  static std::optional<PortAttachment> pinned(const Pins &pins, std::string_view port);

  PortSharing sharing() const;

  /// The interface whose packets run through it; 0: none any more.
  uint32_t ifindex() const;

  /// Whether somebody has taken it off that interface. What cannot be told is no.
  bool is_taken_off(const std::string &interface, uint32_t ifindex) const;

  /// The program on the interface: the link's, or the entry under the dispatcher.
  uint32_t program() const;

  /// The program that decides the port's packets: the link's, or the one behind the entry; 0: none.
  uint32_t deciding_program() const;

  /// Whether the program can take the place of the one that packets run now.
  bool takes(int program_fd) const;

  /// Puts another program there: each packet runs one or the other.
  [[nodiscard]] Status replace(int program_fd) const;

  /// Ends it, and returns when no packet runs through it. On an error packets run as before.
  [[nodiscard]] Status detach() const;

  /// Makes it outlive this process.
  [[nodiscard]] Status pin(const Pins &pins, std::string_view port) const;

  /// How it was made: "native: ...", with the reason.
  XdpMode mode() const { return mode_; }
  const std::string &reason() const { return reason_; }

 private:
  explicit PortAttachment(UniqueFd link) : held_(std::move(link)) {}
  explicit PortAttachment(DispatcherEntry entry) : held_(std::move(entry)) {}

  const UniqueFd *link() const { return std::get_if<UniqueFd>(&held_); }
  const DispatcherEntry &entry() const { return std::get<DispatcherEntry>(held_); }

  std::variant<UniqueFd, DispatcherEntry> held_;
  XdpMode mode_ = XdpMode::kNative;
  std::string reason_;
};

/// Removes whatever pins a port has.
[[nodiscard]] Status unpin_port(const Pins &pins, std::string_view port);

}  // namespace sluice

#endif
