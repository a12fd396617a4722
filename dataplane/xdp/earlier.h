// What a process before this one left running: ports that still have their interface, and the maps that their
// packets run through.
#ifndef SLUICE_XDP_EARLIER_H
#define SLUICE_XDP_EARLIER_H

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"
#include "dataplane/xdp/pins.h"
#include "dataplane/xdp/port_attachment.h"

namespace sluice {

/// A pinned port as it was found, which can be brought back whatever has been done to it since.
class EarlierPort {
 public:
  /// What is pinned for `name`; nothing if no interface's packets run through it.
  static std::optional<EarlierPort> find(const Pins &pins, const std::string &name);

  const std::string &name() const { return name_; }
  uint32_t ifindex() const { return place_.ifindex; }
  XdpMode mode() const { return mode_; }
  const PortAttachment &attachment() const { return attachment_; }

  /// The program that decides the port's packets.
  int program_fd() const { return program_.get(); }

  /// Attaches and pins the port as it was found, on an interface on which nothing of this program's is.
  [[nodiscard]] Status attach_again(const Pins &pins);

 private:
  EarlierPort(std::string name, PortAttachment attachment)
      : name_(std::move(name)), attachment_(std::move(attachment)) {}

  std::string name_;
  PortAttachment attachment_;
  AttachmentPlace place_;
  XdpMode mode_ = XdpMode::kNative;
  UniqueFd program_;
};

std::vector<EarlierPort> earlier_ports(const Pins &pins);

/// The maps of the newest of the ports' programs, whatever is pinned: an interrupted start may have pinned
/// others. Invalid descriptors: there are none.
struct LiveMaps {
  UniqueFd connections;
  UniqueFd counters;
};
LiveMaps live_maps(const std::vector<EarlierPort> &ports);

}  // namespace sluice

#endif
