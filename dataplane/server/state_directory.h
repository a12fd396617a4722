// The directories that the dataplane's files live in, so that a fresh host needs no preparation.
#ifndef SLUICE_SERVER_STATE_DIRECTORY_H
#define SLUICE_SERVER_STATE_DIRECTORY_H

#include <filesystem>
#include <optional>

#include <sys/types.h>

#include "dataplane/abi/result.h"

namespace sluice {

/// Makes the directory of `file` if it is not there, for its owner and `group` (mode 0750; the process's own
/// group when absent), and what is missing above it, for everybody to pass through (0755). What exists stays
/// as it is. Errors name the directory that could not be made, and why.
[[nodiscard]] Status make_directory_of(const std::filesystem::path &file, std::optional<gid_t> group = {});

}  // namespace sluice

#endif
