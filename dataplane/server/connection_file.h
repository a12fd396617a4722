// The file that connection tables lie in while no BPF map holds them: who has it, and its memory.
#ifndef SLUICE_SERVER_CONNECTION_FILE_H
#define SLUICE_SERVER_CONNECTION_FILE_H

#include <cstdint>
#include <filesystem>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// Opens the file, made if need be, for the one dataplane that has it until the descriptor is closed
/// (flock). Errors: the path is not writable, another dataplane has it.
[[nodiscard]] Result<UniqueFd> open_connection_file(const std::filesystem::path &path);

/// Gives the file `size` bytes of real memory: a worker must not meet SIGBUS on a full filesystem. When
/// there is not enough it is `size_before` bytes long again, and the error says how much there is.
[[nodiscard]] Status reserve_connection_file(int fd, const std::filesystem::path &path, uint64_t size,
                                             uint64_t size_before);

/// Removes the file, whose connections are elsewhere now. None there is fine. Errors: another dataplane has
/// it, the path is not writable.
[[nodiscard]] Status discard_connection_file(const std::filesystem::path &path);

}  // namespace sluice

#endif
