// A checked snapshot in memory, and the copy on disk that a dataplane starts from when sluiced is away.
#ifndef SLUICE_SERVER_SNAPSHOT_STORE_H
#define SLUICE_SERVER_SNAPSHOT_STORE_H

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// A snapshot that passed check_snapshot, mapped read-only from a sealed memfd: nobody can change it
/// any more, so what was checked is what packets see. Unmapped when the last reference goes.
class MappedSnapshot {
 public:
  /// Maps `memfd`, which must be a memfd sealed with F_SEAL_WRITE, F_SEAL_SHRINK and F_SEAL_GROW.
  /// A memfd with holes or without a snapshot's header is refused before it costs memory here.
  /// Errors: not a memfd, seals missing, holes, or what check_snapshot says.
  [[nodiscard]] static Result<std::shared_ptr<const MappedSnapshot>> from_memfd(UniqueFd memfd);

  /// Copies `bytes` into a sealed memfd of its own and maps that. Errors as from_memfd.
  [[nodiscard]] static Result<std::shared_ptr<const MappedSnapshot>> from_bytes(
      std::span<const std::byte> bytes);

  MappedSnapshot(const MappedSnapshot &) = delete;
  MappedSnapshot &operator=(const MappedSnapshot &) = delete;
  ~MappedSnapshot();

  const SnapshotHeader &header() const { return *static_cast<const SnapshotHeader *>(address_); }
  std::span<const Service> services() const { return records<Service>(header().services); }
  /// The VIP hash table: index = vip_hash(&header().flow_hash_key, &address) & header().vip_mask.
  std::span<const Vip> vips() const { return records<Vip>(header().vips); }
  std::span<const PortRange> port_ranges() const { return records<PortRange>(header().port_ranges); }
  std::span<const Backend> backends() const { return records<Backend>(header().backends); }
  /// Backend identifiers; a service's are slots()[first_slot, first_slot + slot_count).
  std::span<const uint16_t> slots() const { return records<uint16_t>(header().slots); }
  std::span<const CheckSource> check_sources() const { return records<CheckSource>(header().check_sources); }
  std::span<const uint16_t> pins() const { return records<uint16_t>(header().pins); }
  std::string_view string(StringRef reference) const;

  /// The whole snapshot.
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte *>(address_), size_}; }

  /// The sealed memfd, to hand on; owned by this object.
  int memfd() const { return memfd_.get(); }

 private:
  MappedSnapshot(UniqueFd memfd, const void *address, size_t size)
      : memfd_(std::move(memfd)), address_(address), size_(size) {}

  template <typename Record>
  std::span<const Record> records(const Section &section) const {
    return {reinterpret_cast<const Record *>(static_cast<const std::byte *>(address_) + section.offset),
            section.count};
  }

  UniqueFd memfd_;
  const void *address_;
  size_t size_;  // bytes
};

/// The last accepted snapshot on disk.
class SnapshotStore {
 public:
  /// `path`: the file; its directory must exist when `save` is called.
  explicit SnapshotStore(std::filesystem::path path) : path_(std::move(path)) {}

  /// Puts `snapshot` on disk so that a crash at any moment leaves the old file or the new one, whole:
  /// temporary file, fsync, rename, fsync of the directory. Errors name the file and the cause
  /// (a full disk, ...); the old file is then still there.
  [[nodiscard]] Status save(const MappedSnapshot &snapshot) const;

  /// The stored snapshot; a null pointer when there is none. An error when there is a file that is
  /// not a good snapshot: the file is left where it is, for people to look at.
  [[nodiscard]] Result<std::shared_ptr<const MappedSnapshot>> load() const;

  const std::filesystem::path &path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace sluice

#endif
