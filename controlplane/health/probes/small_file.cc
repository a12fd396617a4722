#include "controlplane/health/probes/small_file.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sluice {

namespace {

Error system_error() { return Error{std::generic_category().message(errno)}; }

Error too_long(size_t most_kib) { return Error{fmt::format("it is over {} KiB", most_kib)}; }

Status judge(const struct stat &status, size_t most_kib) {
  if (!S_ISREG(status.st_mode)) return Error{"it is no regular file"};
  if (static_cast<size_t>(status.st_size) > most_kib * 1024) return too_long(most_kib);
  return Done{};
}

Result<std::string> read_all(int fd, size_t most_kib) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error();
  if (const Status judged = judge(status, most_kib); !judged.ok()) return judged.error();
  std::string bytes(most_kib * 1024 + 1, '\0');  // it may grow meanwhile
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(fd, bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error();
    if (count == 0) break;
    filled += static_cast<size_t>(count);
  }
  if (filled == bytes.size()) return too_long(most_kib);
  bytes.resize(filled);
  return bytes;
}

}  // namespace

Status check_small_file(const std::string &file, size_t most_kib) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return system_error();
  return judge(status, most_kib);
}

Result<std::string> read_small_file(const std::string &file, size_t most_kib) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return system_error();
  Result<std::string> bytes = read_all(fd, most_kib);
  ::close(fd);
  return bytes;
}

}  // namespace sluice
