// The preflight of the XDP engine: what the host, its kernel and each interface are, what was chosen for
// them, and why. What cannot work is refused before anything is changed.
#ifndef SLUICE_XDP_PREFLIGHT_H
#define SLUICE_XDP_PREFLIGHT_H

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "dataplane/abi/result.h"
#include "dataplane/server/port_options.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/forwarding_program.h"

namespace sluice {

struct KernelVersion {
  int major = 0;
  int minor = 0;
  auto operator<=>(const KernelVersion &) const = default;
};

/// "6.1.0-18-amd64" is 6.1; what cannot be read is 0.0.
KernelVersion parse_kernel_version(std::string_view release);

/// Of the host that runs this.
std::string kernel_release();

/// What is known of a port and chosen for it.
struct XdpPortReport {
  std::string name;
  std::string interface;
  InterfaceFacts facts;
  std::string mode;  // "native" or "generic", with the reason; empty: not attached yet
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

/// Judges a host by facts that were asked for. Errors name port, field and remedy: a kernel that is too old,
/// an interface that is not there, merges segments (LRO), or has an MTU that the kernel does not take.
[[nodiscard]] Result<XdpPreflight> make_preflight(const std::vector<PortOptions> &ports,
                                                  const std::vector<InterfaceFacts> &interfaces,
                                                  const std::vector<std::string> &names,
                                                  const std::string &kernel_release);

/// One finding per line, warnings marked; for the log.
std::vector<std::string> preflight_lines(const XdpPreflight &preflight);

/// A port of the report, for programs.
nlohmann::json port_json(const XdpPortReport &port);

}  // namespace sluice

#endif
