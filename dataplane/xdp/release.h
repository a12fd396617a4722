// Ends what is pinned: the programs leave the interfaces, and the connections go to the file from which the
// next dataplane starts, of either engine.
#ifndef SLUICE_XDP_RELEASE_H
#define SLUICE_XDP_RELEASE_H

#include <filesystem>
#include <string>

#include "dataplane/abi/result.h"
#include "dataplane/xdp/pins.h"

namespace sluice {

/// Detaches every link in `pins`, saves the connection table to `connections` and removes the pins. Returns
/// what was done, for the log. Errors: a link cannot be detached, or the table cannot be saved; then its pin
/// stays, and this can be tried again.
[[nodiscard]] Result<std::string> release(const Pins &pins, const std::filesystem::path &connections);

/// The same with the pins in `directory`, and the directory goes as well when nothing is left in it; "" when
/// there are no pins. Errors: also a dataplane that runs.
[[nodiscard]] Result<std::string> release(const std::filesystem::path &directory,
                                          const std::filesystem::path &connections);

}  // namespace sluice

#endif
