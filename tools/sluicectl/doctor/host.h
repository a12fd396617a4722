// The host as its kernel shows it in files, below a root directory: "/" or, in tests, one with the files of
// another host.
#ifndef SLUICE_TOOLS_SLUICECTL_DOCTOR_HOST_H
#define SLUICE_TOOLS_SLUICECTL_DOCTOR_HOST_H

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sluice::ctl {

class Host {
 public:
  explicit Host(std::filesystem::path root) : root_(std::move(root)) {}

  /// `path` is absolute on the host: "/proc/sys/vm/nr_hugepages".
  std::filesystem::path at(const std::string &path) const { return root_ / path.substr(1); }

  bool has(const std::string &path) const;
  /// The content without white space at its ends; nothing when it cannot be read.
  std::optional<std::string> text(const std::string &path) const;
  /// Nothing when it cannot be read or begins with no number.
  std::optional<int64_t> number(const std::string &path) const;
  /// The names in a directory, sorted; none when there is no such directory.
  std::vector<std::string> names(const std::string &directory) const;
  /// The last part of what a symbolic link leads to; empty: it is none.
  std::string link_name(const std::string &path) const;

 private:
  std::filesystem::path root_;
};

/// "0-2,5" of the kernel as numbers; what is no such list is none.
std::vector<int> numbers_of_list(const std::string &list);

}  // namespace sluice::ctl

#endif
