#include "dataplane/server/snapshot_store.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dataplane/server/snapshot_check.h"

namespace sluice {
namespace {

constexpr int kNeededSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
constexpr size_t kBlock = 512;  // bytes: the unit of st_blocks (stat(2))

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

Status write_all(int fd, std::span<const std::byte> bytes, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error{fmt::format("{}: cannot write: {}", what, errno_text())};
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return Done{};
}

Status sync_directory(const std::filesystem::path &file) {
  const std::filesystem::path directory = file.has_parent_path() ? file.parent_path() : ".";
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0)
    return Error{fmt::format("{}: cannot sync the directory: {}", directory.string(), errno_text())};
  return Done{};
}

/// Whether a file of `size` bytes begins as a snapshot of that size does.
Status check_beginning(int fd, size_t size) {
  std::array<std::byte, sizeof(SnapshotHeader)> first = {};
  const ssize_t length = ::pread(fd, first.data(), first.size(), 0);
  if (length < 0) return Error{"snapshot: cannot read: " + errno_text()};
  return check_snapshot_header({first.data(), static_cast<size_t>(length)}, size);
}

}  // namespace

Result<std::shared_ptr<const MappedSnapshot>> MappedSnapshot::from_memfd(UniqueFd memfd) {
  const int seals = ::fcntl(memfd.get(), F_GET_SEALS);
  if (seals < 0) return Error{"snapshot: the descriptor is no memfd: pass a sealed memfd"};
  if ((seals & kNeededSeals) != kNeededSeals)
    return Error{
        fmt::format("snapshot: the memfd has seals {:#x}, but needs {:#x} (F_SEAL_WRITE, F_SEAL_SHRINK, "
                    "F_SEAL_GROW): seal it "
                    "before it is passed",
                    seals, kNeededSeals)};
  struct stat info = {};
  if (::fstat(memfd.get(), &info) != 0) return Error{"snapshot: fstat: " + errno_text()};
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return Error{"snapshot: the memfd is empty"};
  const Status plausible = check_beginning(memfd.get(), size);
  if (!plausible.ok()) return plausible.error();
  // Reading a hole gives it memory, on our account and for as long as the memfd lives.
  if (static_cast<size_t>(info.st_blocks) * kBlock < size)
    return Error{fmt::format(
        "snapshot: the memfd has {} bytes, but memory for {}: write all of it before it is passed", size,
        static_cast<size_t>(info.st_blocks) * kBlock)};
  // Private, since kernels before 6.7 refuse a shared mapping of a memfd that is sealed against writing;
  // the pages are the memfd's own all the same.
  void *address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, memfd.get(), 0);
  if (address == MAP_FAILED)  // NOLINT(performance-no-int-to-ptr)
    return Error{fmt::format("snapshot: cannot map {} bytes: {}", size, errno_text())};
  std::shared_ptr<const MappedSnapshot> snapshot(new MappedSnapshot(std::move(memfd), address, size));
  const Status checked = check_snapshot(snapshot->bytes());
  if (!checked.ok()) return checked.error();
  return snapshot;
}

Result<std::shared_ptr<const MappedSnapshot>> MappedSnapshot::from_bytes(std::span<const std::byte> bytes) {
  UniqueFd memfd(::memfd_create("sluice-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return Error{"snapshot: memfd_create: " + errno_text()};
  const Status written = write_all(memfd.get(), bytes, "snapshot memfd");
  if (!written.ok()) return written.error();
  if (::fcntl(memfd.get(), F_ADD_SEALS, kNeededSeals) != 0)
    return Error{"snapshot: cannot seal the memfd: " + errno_text()};
  return from_memfd(std::move(memfd));
}

MappedSnapshot::~MappedSnapshot() { ::munmap(const_cast<void *>(address_), size_); }

std::string_view MappedSnapshot::string(StringRef reference) const {
  const auto *strings = reinterpret_cast<const char *>(address_) + header().strings.offset;
  return {strings + reference.offset, reference.length};
}

Status SnapshotStore::save(const MappedSnapshot &snapshot) const {
  const std::string temporary = path_.string() + ".new";
  const UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!file.valid()) return Error{fmt::format("{}: cannot create: {}", temporary, errno_text())};
  Status status = write_all(file.get(), snapshot.bytes(), temporary);
  if (status.ok() && ::fsync(file.get()) != 0)
    status = Error{fmt::format("{}: cannot sync: {}", temporary, errno_text())};
  if (status.ok() && ::rename(temporary.c_str(), path_.c_str()) != 0)
    status = Error{fmt::format("{}: cannot rename to {}: {}", temporary, path_.string(), errno_text())};
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_directory(path_);
}

Result<std::shared_ptr<const MappedSnapshot>> SnapshotStore::load() const {
  const UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) return std::shared_ptr<const MappedSnapshot>();
  struct stat info = {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0)
    return Error{fmt::format("{}: cannot open: {}", path_.string(), errno_text())};
  if (!S_ISREG(info.st_mode) || info.st_size == 0)
    return Error{fmt::format("{}: is empty or no regular file", path_.string())};
  const auto size = static_cast<size_t>(info.st_size);
  const Status plausible = check_beginning(file.get(), size);
  if (!plausible.ok()) return Error{fmt::format("{}: {}", path_.string(), plausible.error().message)};
  void *address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED)  // NOLINT(performance-no-int-to-ptr)
    return Error{fmt::format("{}: cannot map {} bytes: {}", path_.string(), size, errno_text())};
  // Copied before it is checked: a file can change under a mapping, a sealed memfd cannot.
  auto snapshot = MappedSnapshot::from_bytes({static_cast<const std::byte *>(address), size});
  ::munmap(address, size);
  if (!snapshot.ok()) return Error{fmt::format("{}: {}", path_.string(), snapshot.error().message)};
  return snapshot;
}

}  // namespace sluice
