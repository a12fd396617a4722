#include "controlplane/store/atomic_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/publish/file_descriptor.h"

namespace sluice {

namespace {

constexpr uint64_t kMaxFileBytes = 4ull << 30;

Status sync_directory(const std::filesystem::path &directory) {
  const FileDescriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened.valid() || fsync(opened.get()) != 0) return state_file_error(directory, "fsync");
  return Done{};
}

}  // namespace

Error state_file_error(const std::filesystem::path &path, const std::string &what) {
  return Error{"state file " + path.string() + ": " + what + ": " + std::strerror(errno)};
}

Result<std::optional<std::vector<std::byte>>> read_file(const std::filesystem::path &path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) return std::optional<std::vector<std::byte>>();
  if (!file.valid()) return state_file_error(path, "cannot be opened");
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return state_file_error(path, "fstat");
  const auto size = static_cast<uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size > kMaxFileBytes) {
    return Error{"state file " + path.string() + ": no regular file of a sensible size; remove it"};
  }
  std::vector<std::byte> bytes(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t count = ::read(file.get(), bytes.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return state_file_error(path, "cannot be read");
    done += static_cast<uint64_t>(count);
  }
  return std::optional(std::move(bytes));
}

Status write_file(const std::filesystem::path &path, std::span<const std::byte> bytes) {
  std::filesystem::path temporary = path;
  temporary += ".new";
  FileDescriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return state_file_error(temporary, "cannot be made");
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return state_file_error(temporary, "cannot be written");
    done += static_cast<size_t>(count);
  }
  if (fsync(file.get()) != 0) return state_file_error(temporary, "fsync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return state_file_error(path, "cannot be replaced");
  return sync_directory(path.parent_path());
}

Status write_file(const std::filesystem::path &path, const std::string &text) {
  return write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace sluice
