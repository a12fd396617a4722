// What keeps forwarding when no dataplane runs: a directory on a bpffs that holds the connection table, the
// counters, one link per port (or entry under a dispatcher), and the tail calls of the programs behind these.
#ifndef SLUICE_XDP_PINS_H
#define SLUICE_XDP_PINS_H

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

inline constexpr std::string_view kConnectionsPin = "connections";
inline constexpr std::string_view kCountersPin = "counters";

/// The pin of a port's link; or, of a port under libxdp's dispatcher, of its entry and of what that jumps to.
std::string link_pin(std::string_view port);
std::string entry_pin(std::string_view port);
std::string jump_pin(std::string_view port);

/// The pin of the map of tail calls that belongs to a program: when nobody has such a map open and no pin
/// names it, the kernel empties it, though a program that runs still uses it.
std::string tail_calls_pin(uint32_t program_id);

/// The directory, for the one process at a time that has it open (flock).
class Pins {
 public:
  /// Opens the directory, made if need be. When it is not on a bpffs, one is mounted there, and the log says
  /// so. Errors: no permission, no bpffs in this kernel, another dataplane has the directory.
  [[nodiscard]] static Result<Pins> open(const std::filesystem::path &directory);

  /// The directory if there is one on a bpffs that holds pins of ours; nothing is made.
  /// Errors: another dataplane has it.
  [[nodiscard]] static Result<std::optional<Pins>> open_existing(const std::filesystem::path &directory);

  const std::filesystem::path &directory() const { return directory_; }

  /// A descriptor of what is pinned as `name`; an invalid one when there is nothing.
  UniqueFd get(std::string_view name) const;

  /// Names of the ports that have a link or an entry here.
  std::vector<std::string> ports() const;

  /// Removes the maps of tail calls of all programs but one (0: of all). Errors name each file that stays.
  [[nodiscard]] Status remove_tail_calls(uint32_t but_of_program_id) const;

  /// Pins `fd` as `name`, in one step in the place of what was pinned so. Errors name the file.
  [[nodiscard]] Status put(std::string_view name, int fd) const;

  /// Removes a pin; none there is fine. Errors name the file.
  [[nodiscard]] Status remove(std::string_view name) const;

  /// Removes the directory, and a bpffs that was mounted for it, if nothing is in it any more.
  void remove_directory() const;

 private:
  Pins(std::filesystem::path directory, UniqueFd lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}
  static Result<Pins> lock(const std::filesystem::path &directory);
  std::filesystem::path file(std::string_view name) const { return directory_ / name; }
  std::vector<std::string> names_after(std::string_view prefix) const;

  std::filesystem::path directory_;
  UniqueFd lock_;
};

}  // namespace sluice

#endif
