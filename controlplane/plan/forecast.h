// What another snapshot would change for packets: which share of each service's hash slots, and which of the
// live connections. Nothing is changed by asking.
#ifndef SLUICE_CONTROLPLANE_PLAN_FORECAST_H
#define SLUICE_CONTROLPLANE_PLAN_FORECAST_H

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/model/snapshot_view.h"
#include "controlplane/publish/region.h"

namespace sluice {

/// Of a service's live connections: TCP that is opening or open, and UDP flows that have not timed out.
struct ConnectionForecast {
  uint64_t live = 0;
  uint64_t moved = 0;           // the next packet goes to another backend, which breaks a TCP connection
  uint64_t broken = 0;          // the next packet goes to no backend
  uint64_t until_deadline = 0;  // they go on, until a drain's deadline that the change sets

  bool operator==(const ConnectionForecast &) const = default;
};

struct ServiceForecast {
  std::string service;
  bool goes = false;   // it is not there afterwards
  uint32_t slots = 0;  // of its table, afterwards; 0: nobody takes new connections
  double moved = 0;    // share of hash values (0 to 1) that had a backend, and have another one or none
  std::optional<ConnectionForecast> connections;  // absent: not known, the dataplane is away
};

struct Forecast {
  std::vector<ServiceForecast>
      services;  // those of the snapshot of before, in the order of their identifiers

  /// The largest share of hash values of one service.
  double worst_moved() const;
  /// The largest share of one service's live connections that move or break. 0 when they are not known.
  double worst_broken() const;
};

/// What a forecast is made of.
struct ForecastInput {
  const SnapshotView &before;  // in force
  const SnapshotView &after;
  const ConnectionView *connections = nullptr;  // nullptr: not known
  uint64_t boottime_s = 0;                      // CLOCK_BOOTTIME
  std::set<uint16_t> new_deadlines;             // backends that get a deadline, by identifier
};

/// Compares slot by slot, and looks at every entry of the connection tables. A connection that several
/// workers know counts once. Both snapshots must have been given their identifiers one after the other.
Forecast forecast(const ForecastInput &input);

}  // namespace sluice

#endif
