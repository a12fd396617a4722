// Keeps the backends of every pool with a source: asks the sources, judges their answers, tells of changes.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_DISCOVERER_H
#define SLUICE_CONTROLPLANE_DISCOVERY_DISCOVERER_H

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"
#include "controlplane/discovery/pool_feed.h"
#include "controlplane/model/desired_state.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct DiscovererOptions {
  std::filesystem::path directory;  // of what was found last; made when something is to be stored
  uint64_t seed = 0;                // of the jitter between tries
};

/// What became of a registration.
struct Registered {
  enum class Outcome {
    kTaken,      // found() has changed
    kUnchanged,  // a heartbeat
    kNotFound,   // no pool, or no registration, of that name
    kConflict,   // with the configuration, or with another registration
    kRefused,    // by a limit
  };
  Outcome outcome = Outcome::kTaken;
  std::string message;
};

/// Runs on a thread of its own. Times are of a steady clock: a step of the wall clock changes nothing but
/// what is shown.
class Discoverer {
 public:
  /// Called on the discoverer's thread, outside of its lock, when found() has changed. Not for registrations,
  /// whose caller hears of it.
  using OnChange = std::function<void()>;

  /// Starts the thread. Fails when the host gives no event queue.
  static Result<std::unique_ptr<Discoverer>> start(const DiscovererOptions &options, OnChange on_change);
  /// Stops the thread; questions that run are dropped.
  ~Discoverer();
  Discoverer(const Discoverer &) = delete;
  Discoverer &operator=(const Discoverer &) = delete;

  /// Replaces the sources by those of `configured`. What was found for a pool stays until its source, which
  /// may be another one now, says something else. A pool that had none before begins with the backends that
  /// the configuration has lost in it, or else with what the disk has of it.
  void set_sources(const model::DesiredState &configured);

  /// What is known of each pool with a source.
  FoundPools found() const;

  /// What found() would be after set_sources(`configured`).
  FoundPools found_for(const model::DesiredState &configured) const;

  /// `pools` is in use, whatever found() says: what the disk has of them is this.
  void keep(const FoundPools &pools);

  /// Every source's report, ordered by pool.
  std::vector<SourceReport> reports() const;

  /// A backend of a pool of type registration says that it is there, for its ttl; or that it goes.
  Registered put_registration(const std::string &pool, const FoundBackend &backend);
  Registered remove_registration(const std::string &pool, const std::string &name);

 private:
  struct Impl;
  explicit Discoverer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
