// A snapshot on its way to the dataplane: memory that nobody, the sender included, can change any more.
#ifndef SLUICE_CONTROLPLANE_PUBLISH_SEALED_MEMFD_H
#define SLUICE_CONTROLPLANE_PUBLISH_SEALED_MEMFD_H

#include <cstddef>
#include <span>

#include "controlplane/publish/file_descriptor.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// A memfd with these bytes, sealed against writing, shrinking, growing and other seals (memfd_create(2),
/// fcntl(2) F_ADD_SEALS).
Result<FileDescriptor> make_sealed_memfd(std::span<const std::byte> bytes);

}  // namespace sluice

#endif
