// The preflight of the XDP engine: what the host, its kernel and each interface are, what was chosen for
// them, and why. What cannot work is refused before anything is changed.
#ifndef SLUICE_XDP_PREFLIGHT_H
#define SLUICE_XDP_PREFLIGHT_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "dataplane/abi/result.h"
#include "dataplane/server/port_options.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/forwarding_program.h"
#include "dataplane/xdp/kernel_features.h"
#include "dataplane/xdp/port_attachment.h"

namespace sluice {

/// What is known of a port and chosen for it.
struct XdpPortReport {
  std::string name;
  std::string interface;
  InterfaceFacts facts;     // ifindex 0: the interface has gone
  uint16_t wanted_mtu = 0;  // bytes of IP packet, as configured; 0: what the interface has
  std::vector<InterfaceAddress> addresses;
  PortSharing sharing = PortSharing::kAlone;
  std::string mode;    // "native" or "generic", with the reason; empty: not attached yet
  std::string misfit;  // why the interface is not as it should be, since it has another MTU; empty: it is
  std::vector<std::string> notes;
  std::vector<std::string> warnings;  // what an operator should change
};

struct XdpPreflight {
  std::string kernel;
  std::string buffers;  // whether frames may lie in several
  std::string sweep;    // how expired connections are taken out
  std::string sharing;  // with other XDP programs on the interfaces
  FrameBuffers frame_buffers = FrameBuffers::kOne;
  std::vector<XdpPortReport> ports;
};

/// Judges a host by facts that were asked for. Errors name port, field and remedy: a kernel that lacks
/// something, an interface that is not there, merges segments (LRO), or has an MTU that the kernel does not
/// take.
[[nodiscard]] Result<XdpPreflight> make_preflight(const std::vector<PortOptions> &ports,
                                                  const std::vector<InterfaceFacts> &interfaces,
                                                  const std::vector<std::string> &names,
                                                  const KernelFeatures &kernel);

/// Whether an interface that is made anew, or has another MTU, can be the port's: it has to be as the
/// preflight wanted it.
[[nodiscard]] Status check_again(const XdpPortReport &port, const InterfaceFacts &facts,
                                 FrameBuffers buffers);

/// One finding per line, warnings marked; for the log.
std::vector<std::string> preflight_lines(const XdpPreflight &preflight);

/// A port of the report, for programs.
nlohmann::json port_json(const XdpPortReport &port);

}  // namespace sluice

#endif
