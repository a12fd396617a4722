#include "dataplane/server/connection_file.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace sluice {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

Error no_room(const std::filesystem::path &path, uint64_t size) {
  const std::string cause = errno_text();
  struct statvfs filesystem = {};
  ::statvfs(path.c_str(), &filesystem);
  return Error{fmt::format(
      "{}: the connection tables need {} MiB, its filesystem has {} MiB free: {}; ask for fewer connections "
      "or "
      "make the filesystem larger",
      path.string(), size / kMebibyte, filesystem.f_bavail * filesystem.f_frsize / kMebibyte, cause)};
}

Status lock(int fd, const std::filesystem::path &path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return Done{};
  return Error{
      fmt::format("{}: cannot lock: {}; another sluice-dataplane uses it: stop that one or give this one "
                  "another file",
                  path.string(), errno_text())};
}

std::filesystem::path replacement_path(const std::filesystem::path &path) { return path.string() + ".new"; }

/// Gives back the memory that an owner before this one, who was killed, had reserved. Only for the file's
/// owner.
void remove_leftover_replacement(const std::filesystem::path &path) {
  if (::unlink(replacement_path(path).c_str()) != 0 && errno != ENOENT)
    spdlog::warn("{}: cannot remove: {}", replacement_path(path).string(), errno_text());
}

Status remove_file(const std::filesystem::path &path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return Done{};
  return Error{fmt::format("{}: cannot remove: {}", path.string(), errno_text())};
}

}  // namespace

Result<UniqueFd> open_connection_file(const std::filesystem::path &path) {
  for (;;) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
      return Error{fmt::format("{}: cannot open or create: {}", path.string(), errno_text())};
    const Status locked = lock(file.get(), path);
    if (!locked.ok()) return locked.error();
    struct stat info = {};
    if (::fstat(file.get(), &info) != 0) return Error{fmt::format("{}: {}", path.string(), errno_text())};
    // Who had it may have discarded it meanwhile: nobody would find what went into this one.
    if (info.st_nlink == 0) continue;
    remove_leftover_replacement(path);
    return file;
  }
}

Status reserve_connection_file(int fd, const std::filesystem::path &path, uint64_t size,
                               uint64_t size_before) {
  if (::ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      (::fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0 || errno == EOPNOTSUPP))
    return Done{};
  const Error error = no_room(path, size);
  if (::ftruncate(fd, static_cast<off_t>(size_before)) != 0)
    spdlog::warn("{}: cannot give memory back: {}", path.string(), errno_text());
  return error;
}

Result<ConnectionFileReplacement> ConnectionFileReplacement::reserve(UniqueFd owner,
                                                                     const std::filesystem::path &path,
                                                                     uint64_t size) {
  const std::filesystem::path beside = replacement_path(path);
  UniqueFd file(::open(beside.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid())
    return Error{fmt::format("{}: cannot open or create: {}", beside.string(), errno_text())};
  ConnectionFileReplacement replacement(path, std::move(owner), std::move(file));
  Status done = lock(replacement.fd(), beside);
  if (done.ok()) done = reserve_connection_file(replacement.fd(), path, size, 0);
  if (!done.ok()) return done.error();
  return replacement;
}

ConnectionFileReplacement::~ConnectionFileReplacement() {
  if (file_.valid()) ::unlink(replacement_path(path_).c_str());
}

Result<UniqueFd> ConnectionFileReplacement::put_in_place() && {
  if (::rename(replacement_path(path_).c_str(), path_.c_str()) != 0)
    return Error{fmt::format("{}: cannot rename to {}: {}", replacement_path(path_).string(), path_.string(),
                             errno_text())};
  return std::move(file_);
}

Result<UniqueFd> make_connection_file_anew(UniqueFd file, const std::filesystem::path &path, uint64_t size) {
  UniqueFd owner(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  Result<ConnectionFileReplacement> replacement =
      ConnectionFileReplacement::reserve(std::move(owner), path, size);
  if (replacement.ok()) return std::move(replacement).value().put_in_place();
  if (::ftruncate(file.get(), 0) != 0)
    return Error{fmt::format("{}: cannot truncate: {}", path.string(), errno_text())};
  const Status reserved = reserve_connection_file(file.get(), path, size, 0);
  if (!reserved.ok()) return reserved.error();
  return file;
}

Result<SharedMemory> map_connection_file(int fd, const std::filesystem::path &path, uint64_t size) {
  Result<Mapping> mapping = map_shared(fd, size, path.string());
  if (!mapping.ok()) return mapping.error();
  Result<UniqueFd> reader = reopen_for_reading(fd);
  if (!reader.ok()) return reader.error();
  // Granted where the filesystem may (tmpfs with huge=advise); a wish, so its failure is no error.
  ::madvise(mapping.value().data(), size, MADV_HUGEPAGE);
  return SharedMemory{std::move(mapping).value(), std::move(reader).value(), path.string()};
}

Result<std::optional<ConnectionFile>> ConnectionFile::open_existing(const std::filesystem::path &path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid() && errno == ENOENT) return std::optional<ConnectionFile>();
  if (!file.valid()) return Error{fmt::format("{}: cannot open: {}", path.string(), errno_text())};
  const Status locked = lock(file.get(), path);
  if (!locked.ok()) return locked.error();
  struct stat info = {};
  if (::fstat(file.get(), &info) != 0) return Error{fmt::format("{}: {}", path.string(), errno_text())};
  if (info.st_nlink == 0) return open_existing(path);  // who had it has put another in its place
  remove_leftover_replacement(path);
  // Only a region is of use, and that is never smaller than a page.
  constexpr off_t kPage = 4096;
  if (info.st_size < kPage) return std::optional<ConnectionFile>();
  Result<Mapping> mapping = map_shared(file.get(), static_cast<size_t>(info.st_size), path.string());
  if (!mapping.ok()) return mapping.error();
  return std::optional<ConnectionFile>(ConnectionFile(path, std::move(file), std::move(mapping).value()));
}

Status ConnectionFile::discard() const { return remove_file(path_); }

Status discard_connection_file(const std::filesystem::path &path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid() && errno == ENOENT) return Done{};
  if (!file.valid()) return Error{fmt::format("{}: cannot open: {}", path.string(), errno_text())};
  const Status locked = lock(file.get(), path);
  return locked.ok() ? remove_file(path) : locked;
}

}  // namespace sluice
