#include "controlplane/publish/sealed_memfd.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>

namespace sluice {
namespace {

Error system_error(const std::string &what) { return Error{"memfd: " + what + ": " + std::strerror(errno)}; }

}  // namespace

Result<FileDescriptor> make_sealed_memfd(std::span<const std::byte> bytes) {
  FileDescriptor memfd(memfd_create("sluice-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return system_error("cannot be made");
  for (size_t written = 0; written < bytes.size();) {
    const ssize_t count = ::write(memfd.get(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return system_error("cannot take " + std::to_string(bytes.size()) + " bytes");
    written += static_cast<size_t>(count);
  }
  if (fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("cannot be sealed");
  }
  return memfd;
}

}  // namespace sluice
