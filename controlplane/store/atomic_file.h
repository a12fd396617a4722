// Files of the state directory, whole or not at all.
#ifndef SLUICE_CONTROLPLANE_STORE_ATOMIC_FILE_H
#define SLUICE_CONTROLPLANE_STORE_ATOMIC_FILE_H

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"

namespace sluice {

/// The file's bytes; nothing when there is no such file. Errors name it.
Result<std::optional<std::vector<std::byte>>> read_file(const std::filesystem::path &path);

/// Writes a new file beside the old one and puts it in the old one's place: whoever reads sees one of
/// the two, whole, also after a power failure.
Status write_file(const std::filesystem::path &path, std::span<const std::byte> bytes);
Status write_file(const std::filesystem::path &path, const std::string &text);

/// "state file PATH: WHAT: " and what errno says.
Error state_file_error(const std::filesystem::path &path, const std::string &what);

}  // namespace sluice

#endif
