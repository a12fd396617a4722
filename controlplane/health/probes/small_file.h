// Files of the operator's that checks read on their loop.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_SMALL_FILE_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_SMALL_FILE_H

#include <cstddef>
#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

/// Whether `file` is one that can be read without waiting for a writer, and to its end. Errors say "it is no
/// regular file", "it is over 4096 KiB" or what the kernel says.
Status check_small_file(const std::string &file, size_t most_kib);

/// All of it. Errors as above.
Result<std::string> read_small_file(const std::string &file, size_t most_kib);

}  // namespace sluice

#endif
