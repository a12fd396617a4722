// Writes what is found to the disk, on a thread of its own: neither the control loop nor a source waits for
// it.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_FOUND_SAVER_H
#define SLUICE_CONTROLPLANE_DISCOVERY_FOUND_SAVER_H

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "controlplane/discovery/found_store.h"

namespace sluice {

/// Changes of a second are written once, whole files each: a crash may lose the last second's, and never
/// leaves half of one. What cannot be written is tried again. Safe from any thread.
class FoundSaver {
 public:
  explicit FoundSaver(std::filesystem::path directory);
  /// Writes what is left.
  ~FoundSaver();
  FoundSaver(const FoundSaver &) = delete;
  FoundSaver &operator=(const FoundSaver &) = delete;

  void save(const std::string &pool, StoredPool stored);
  /// The other pools have no source any more.
  void keep_only(std::set<std::string> pools);

  /// What was saved last, written or not. Reads from the disk.
  Result<std::optional<StoredPool>> load(const std::string &pool);

 private:
  using Unsaved = std::map<std::string, StoredPool>;

  void run();
  Unsaved write(const Unsaved &unsaved) const;
  void put_aside(const std::optional<std::set<std::string>> &pools);

  FoundStore store_;
  std::mutex files_;  // held while files are read or renamed: never for a write

  std::mutex mutex_;  // guards what follows
  std::condition_variable work_;
  Unsaved unsaved_;
  Unsaved writing_;                            // taken from there, and not all on the disk yet
  std::optional<std::set<std::string>> kept_;  // to be kept, the others not
  std::chrono::milliseconds delay_;
  bool ending_ = false;

  std::thread thread_;
};

}  // namespace sluice

#endif
