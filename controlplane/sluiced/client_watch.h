// Passive health of all pools that have it: reads what the dataplane has counted of their backends' clients,
// ten times a second and of each of them, so nothing here is looked up by name.
#ifndef SLUICE_CONTROLPLANE_SLUICED_CLIENT_WATCH_H
#define SLUICE_CONTROLPLANE_SLUICED_CLIENT_WATCH_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "controlplane/health/outlier.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/identifiers.h"
#include "controlplane/publish/region.h"

namespace sluice {

class ClientWatch {
 public:
  /// Of a backend, both in the desired state's order; of an event that is its pool's, `backend` says nothing.
  struct Place {
    size_t pool;
    size_t backend;
  };
  struct Event {
    Place place;
    OutlierEvent::Kind kind;
    std::string text;  // without a name
  };

  /// Whom to watch from now on. None of them serves until set_serves() says so. What is known of one that was
  /// watched before stays known.
  void watch(const model::DesiredState &desired, const model::Identifiers &identifiers);
  /// Whether it takes new connections but for what its clients got.
  void set_serves(Place place, bool serves);

  bool watches_anybody() const { return !pools_.empty(); }
  std::vector<Event> look(const CounterView &counters, OutlierTime now);
  /// Instead of look() while there is nothing to see: what is over ends all the same.
  std::vector<Event> look_away(OutlierTime now);

  OutlierState state(Place place) const;
  /// What there is to say of a backend; empty: nothing, or its pool has no passive health.
  std::string text(Place place, OutlierTime now) const;
  bool is_watched(Place place) const { return pools_.contains(place.pool); }

 private:
  struct Pool {
    std::string name;
    model::PassiveHealth config;
    OutlierPool outliers;
    std::vector<OutlierPool::Sample> samples;  // by place in the pool, as are its members
  };

  static void read(const CounterView &counters, Pool *pool);

  std::map<size_t, Pool> pools_;  // by place in the desired state
};

}  // namespace sluice

#endif
