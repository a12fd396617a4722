// Backends that have said themselves that they are there.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_REGISTRATIONS_H
#define SLUICE_CONTROLPLANE_DISCOVERY_REGISTRATIONS_H

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"

namespace sluice {

/// Of one pool. Pure: the clock is a parameter.
class Registrations {
 public:
  using Clock = std::chrono::steady_clock;

  Registrations() = default;
  /// After a restart each has one whole ttl to be heard of. What has no ttl never registered.
  Registrations(const std::vector<FoundBackend> &known, Clock::time_point now) {
    for (const FoundBackend &backend : known) {
      if (backend.ttl.count() > 0) put(backend, now);
    }
  }

  /// New, changed or heard of again; it ends `backend.ttl` from now.
  void put(const FoundBackend &backend, Clock::time_point now) {
    entries_[backend.name] = {backend, now + backend.ttl};
  }

  /// The same as before, and in time: it goes on for another ttl. False: it is not.
  bool beat(const FoundBackend &backend, Clock::time_point now) {
    const auto known = entries_.find(backend.name);
    if (known == entries_.end() || known->second.ends <= now || known->second.backend != backend)
      return false;
    known->second.ends = now + backend.ttl;
    return true;
  }

  /// nullptr: there is none of that name.
  const FoundBackend *find(const std::string &name) const {
    const auto known = entries_.find(name);
    return known == entries_.end() ? nullptr : &known->second.backend;
  }

  /// False: there is none of that name.
  bool remove(const std::string &name) { return entries_.erase(name) > 0; }

  /// Takes those out whose time has passed; how many.
  size_t expire(Clock::time_point now) {
    return std::erase_if(entries_, [now](const auto &entry) { return entry.second.ends <= now; });
  }

  /// When the next one ends; nothing: there are none.
  std::optional<Clock::time_point> next_end() const {
    std::optional<Clock::time_point> first;
    for (const auto &[name, entry] : entries_) {
      if (!first || entry.ends < *first) first = entry.ends;
    }
    return first;
  }

  /// By name.
  std::vector<FoundBackend> backends() const {
    std::vector<FoundBackend> backends;
    for (const auto &[name, entry] : entries_) backends.push_back(entry.backend);
    return backends;
  }

 private:
  struct Entry {
    FoundBackend backend;
    Clock::time_point ends;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace sluice

#endif
