// A directory that goes with its test.
#ifndef SLUICE_TESTS_SERVER_TEMPORARY_DIRECTORY_H
#define SLUICE_TESTS_SERVER_TEMPORARY_DIRECTORY_H

#include <cstdlib>
#include <filesystem>
#include <string>

namespace sluice {

class TemporaryDirectory {
 public:
  /// `parent`: an existing directory, of the filesystem that the test wants.
  explicit TemporaryDirectory(const std::filesystem::path &parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / "sluice-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path &path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace sluice

#endif
