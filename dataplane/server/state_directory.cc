#include "dataplane/server/state_directory.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;

Status make(const fs::path &directory, mode_t mode, std::optional<gid_t> group) {
  const auto failed = [&directory](std::string_view what) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe)
    return Error{
        fmt::format("{}: cannot {} this directory: {}", directory.string(), what, std::strerror(errno))};
  };
  if (::mkdir(directory.c_str(), mode) != 0) {
    if (errno == EEXIST && fs::is_directory(directory)) return Done{};
    return failed("make");
  }
  if (group && ::chown(directory.c_str(), static_cast<uid_t>(-1), *group) != 0)
    return failed("change the group of");
  // The umask has had its say in mkdir.
  if (::chmod(directory.c_str(), mode) != 0) return failed("change the mode of");
  return Done{};
}

}  // namespace

Status make_directory_of(const fs::path &file, std::optional<gid_t> group) {
  const fs::path directory = file.parent_path();
  std::error_code ignored;
  if (directory.empty() || fs::is_directory(directory, ignored)) return Done{};
  fs::path above;
  for (const fs::path &part : directory.parent_path()) {
    above /= part;
    if (fs::is_directory(above, ignored)) continue;
    Status made = make(above, 0755, std::nullopt);
    if (!made.ok()) return made;
  }
  return make(directory, 0750, group);
}

}  // namespace sluice
