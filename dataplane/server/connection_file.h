// The file that connection tables lie in while no BPF map holds them: who has it, and its memory.
#ifndef SLUICE_SERVER_CONNECTION_FILE_H
#define SLUICE_SERVER_CONNECTION_FILE_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "dataplane/abi/result.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// Opens the file, made if need be, for the one dataplane that has it until the descriptor is closed
/// (flock). A replacement that was reserved by one that was killed is removed. Errors: the path is not
/// writable, another dataplane has it.
[[nodiscard]] Result<UniqueFd> open_connection_file(const std::filesystem::path &path);

/// Gives the file `size` bytes of real memory: a worker must not meet SIGBUS on a full filesystem. When
/// there is not enough it is `size_before` bytes long again, and the error says how much there is.
[[nodiscard]] Status reserve_connection_file(int fd, const std::filesystem::path &path, uint64_t size,
                                             uint64_t size_before);

/// Memory that is to be the file, reserved beside it: until it is put in place the file is as it was, also
/// when this process is killed or there is not enough for both. Who has the file has this one as well.
class ConnectionFileReplacement {
 public:
  /// `owner`: the file, opened by open_connection_file. Errors: as reserve_connection_file.
  [[nodiscard]] static Result<ConnectionFileReplacement> reserve(UniqueFd owner,
                                                                 const std::filesystem::path &path,
                                                                 uint64_t size);

  ConnectionFileReplacement(ConnectionFileReplacement &&) noexcept = default;
  ConnectionFileReplacement &operator=(ConnectionFileReplacement &&) = delete;
  ConnectionFileReplacement(const ConnectionFileReplacement &) = delete;
  /// Gives the memory back unless it was put in place.
  ~ConnectionFileReplacement();

  int fd() const { return file_.get(); }

  /// Makes it the file, in one step; returns its descriptor, which has it (open_connection_file).
  [[nodiscard]] Result<UniqueFd> put_in_place() &&;

 private:
  ConnectionFileReplacement(std::filesystem::path path, UniqueFd owner, UniqueFd file)
      : path_(std::move(path)), owner_(std::move(owner)), file_(std::move(file)) {}

  std::filesystem::path path_;
  UniqueFd owner_;
  UniqueFd file_;  // none any more once it is in place, or moved from
};

/// Replaces the file, which is of no use to anybody any more, by one of `size` bytes of zeros; the one of
/// before goes first when there is no memory for both. Errors: as reserve_connection_file.
[[nodiscard]] Result<UniqueFd> make_connection_file_anew(UniqueFd file, const std::filesystem::path &path,
                                                         uint64_t size);

/// The file's memory, with a descriptor for readers.
[[nodiscard]] Result<SharedMemory> map_connection_file(int fd, const std::filesystem::path &path,
                                                       uint64_t size);

/// The file as a source, which nobody changes while this object has it (flock).
class ConnectionFile {
 public:
  /// Nothing when there is no file, or nothing in it. As open_connection_file() otherwise. Errors: another
  /// dataplane has it.
  [[nodiscard]] static Result<std::optional<ConnectionFile>> open_existing(const std::filesystem::path &path);

  /// Valid as long as this object.
  std::span<const std::byte> bytes() const { return {mapping_.data(), mapping_.size()}; }

  /// Removes it: its connections are elsewhere now.
  [[nodiscard]] Status discard() const;

 private:
  ConnectionFile(std::filesystem::path path, UniqueFd file, Mapping mapping)
      : path_(std::move(path)), file_(std::move(file)), mapping_(std::move(mapping)) {}

  std::filesystem::path path_;
  UniqueFd file_;
  Mapping mapping_;
};

/// Removes the file, whose connections are elsewhere now. None there is fine. Errors: another dataplane has
/// it, the path is not writable.
[[nodiscard]] Status discard_connection_file(const std::filesystem::path &path);

}  // namespace sluice

#endif
