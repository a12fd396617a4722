// Whether a port's program stands alone on its interface or beside others, judged by what is there.
#ifndef SLUICE_XDP_SHARING_H
#define SLUICE_XDP_SHARING_H

#include <optional>
#include <string>

#include "dataplane/abi/result.h"
#include "dataplane/options.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/dispatcher.h"
#include "dataplane/xdp/port_attachment.h"

namespace sluice {

/// What is on an interface.
struct Occupation {
  InterfaceProgram program;              // id 0: none
  std::optional<Dispatcher> dispatcher;  // set: the program is libxdp's dispatcher
  uint32_t own = 0;                      // the engine's own program there, or its entry; 0: none
};

/// Whether all of it is what a killed AF_XDP socket leaves, alone or under a dispatcher.
bool is_of_af_xdp(const Occupation &occupation);

/// `no_dispatcher` is why this kernel has no dispatchers, or empty.
/// Errors: somebody else's program is there and cannot be shared with; they name it and how to take it off.
[[nodiscard]] Result<PortSharing> choose_sharing(XdpSharing wanted, const Occupation &occupation,
                                                 const std::string &interface,
                                                 const std::string &no_dispatcher);

/// For the preflight.
std::string sharing_text(XdpSharing wanted, const std::string &no_dispatcher);

}  // namespace sluice

#endif
