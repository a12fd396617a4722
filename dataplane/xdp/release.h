// Ends what is pinned: the programs leave the interfaces, and the connections go to the file from which the
// next dataplane starts, of either engine.
#ifndef SLUICE_XDP_RELEASE_H
#define SLUICE_XDP_RELEASE_H

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/pins.h"

namespace sluice {

/// What was pinned, on its way out: stopped, but not forgotten until its successor forwards.
class Release {
 public:
  /// Detaches every port in `pins`, which outlives this object, and saves the connection table to
  /// `connections`; the pins stay. Errors: a port cannot be detached, or the table cannot be saved. Then
  /// everything is as before: memory for the file is reserved before anything is detached.
  [[nodiscard]] static Result<Release> begin(const Pins &pins, const std::filesystem::path &connections);

  /// What was done, for the log.
  const std::string &text() const { return text_; }

  /// Removes the pins; where one cannot be removed, the others still go. Errors name each file that stays.
  [[nodiscard]] Status finish() const;

  /// Attaches everything again; the connections are the map's again. Errors: a port that cannot be, which is
  /// said to the log; the others are.
  void undo();

 private:
  Release(const Pins &pins, std::filesystem::path connections)
      : pins_(&pins), connections_(std::move(connections)) {}
  Status detach_ports();

  const Pins *pins_;
  std::filesystem::path connections_;
  std::vector<EarlierPort> ports_;
  size_t detached_ = 0;  // of ports_
  enum class File { kAsBefore, kSaved } file_ = File::kAsBefore;
  std::string text_;
};

/// The pinned engine as the predecessor of another that starts; nothing pinned is fine.
class PinnedEngine {
 public:
  PinnedEngine(std::filesystem::path directory, std::filesystem::path connections)
      : directory_(std::move(directory)), connections_(std::move(connections)) {}

  /// Release::begin. Errors: also a dataplane that runs.
  [[nodiscard]] Status stop();
  /// Release::undo.
  void resume();
  /// Release::finish, and the directory goes when nothing is left in it.
  [[nodiscard]] Status forget();

 private:
  std::filesystem::path directory_;
  std::filesystem::path connections_;
  std::optional<Pins> pins_;
  std::optional<Release> release_;
};

/// Both steps in one. Errors: as both; tried again it goes on.
[[nodiscard]] Result<std::string> release(const Pins &pins, const std::filesystem::path &connections);

/// The same with the pins in `directory`, and the directory goes as well when nothing is left in it; "" when
/// there are no pins. Errors: also a dataplane that runs.
[[nodiscard]] Result<std::string> release(const std::filesystem::path &directory,
                                          const std::filesystem::path &connections);

}  // namespace sluice

#endif
