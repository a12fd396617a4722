// Makes the directories that a daemon's files live in.
#ifndef SLUICE_CONTROLPLANE_STORE_DIRECTORIES_H
#define SLUICE_CONTROLPLANE_STORE_DIRECTORIES_H

#include <filesystem>

#include "dataplane/abi/result.h"

namespace sluice {

/// Makes `directory` and what is missing above it, each with mode 0750. One that is there stays as it is.
/// The error names the one that cannot be made, and what to do.
Status make_directories(const std::filesystem::path &directory);

}  // namespace sluice

#endif
