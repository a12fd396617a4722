#include "controlplane/store/directories.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

namespace sluice {

Status make_directories(const std::filesystem::path &directory) {
  constexpr mode_t kMode = 0750;
  if (directory.empty() || std::filesystem::is_directory(directory)) return Done{};
  if (Status above = make_directories(directory.parent_path()); !above.ok()) return above;
  if (mkdir(directory.c_str(), kMode) != 0) {
    if (errno == EEXIST && std::filesystem::is_directory(directory)) return Done{};  // somebody was faster
    const std::string why = std::strerror(errno);
    const std::string user = std::to_string(geteuid());
    return Error{"directory " + directory.native() + " cannot be made: " + why +
                 "; make it for the user of sluiced (as root: install -d -m 0750 -o " + user + " " +
                 directory.native() + ") or choose another place"};
  }
  chmod(directory.c_str(), kMode);  // whatever the umask took away
  return Done{};
}

}  // namespace sluice
