// The gate in front of the packet path: bytes of a snapshot are checked whole, once, so that the core
// can follow every index in them without looking.
#ifndef SLUICE_SERVER_SNAPSHOT_CHECK_H
#define SLUICE_SERVER_SNAPSHOT_CHECK_H

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/abi/result.h"

namespace sluice {

/// Says whether `bytes` are a snapshot that the packet path may use: magic, version, sizes, alignment,
/// sections, checksum, every enumerator, every timeout, every index and every string in range, each VIP found
/// within kMaxVipProbes. Never reads outside `bytes`, whatever they say.
///
/// `bytes` must start at a multiple of 64 (memory mappings do); else an error.
/// Errors name section, index, field and value: "backends[7].state: 9 is no BackendState (0 to 3)".
[[nodiscard]] Status check_snapshot(std::span<const std::byte> bytes);

/// The part of check_snapshot that the first bytes of a snapshot of `size` bytes answer: magic, version
/// and size. For deciding whether to read the rest at all.
[[nodiscard]] Status check_snapshot_header(std::span<const std::byte> first_bytes, uint64_t size);

}  // namespace sluice

#endif
