// The state of a backend: which there are, what each means for traffic, and the table that says which one it
// is. Pure, so that a test can go through every combination of what it depends on.
#ifndef SLUICE_CONTROLPLANE_LIFECYCLE_SERVING_STATE_H
#define SLUICE_CONTROLPLANE_LIFECYCLE_SERVING_STATE_H

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"

namespace sluice {

enum class ServingState : uint8_t {
  kMaintenance,
  kDrained,
  kDraining,
  kUnknown,
  kDown,
  kEjected,
  kFailing,
  kStarting,
  kUp,
};

inline constexpr size_t kServingStateCount = 9;

/// Everything that a backend's state depends on.
struct Standing {
  enum class Order : uint8_t { kServe, kDrain, kMaintenance };

  Order order = Order::kServe;                     // the operator's, at run time or in the configuration
  bool drain_over = false;                         // no connections are left, or the deadline has passed
  model::Health health = model::Health::kUnknown;  // kUp where nothing is checked
  bool held = false;                               // flap damping
  bool ejected = false;                            // passive health
  bool ramping = false;                            // slow start, or tried again after an ejection
};

/// A row of the table: the standing that it is for (absent: any), and the state. The first row that fits
/// counts.
struct StateRow {
  std::optional<Standing::Order> order;
  std::optional<bool> drain_over;
  std::optional<model::Health> health;
  std::optional<bool> held;
  std::optional<bool> ejected;
  std::optional<bool> ramping;
  ServingState state;
};

std::span<const StateRow> state_table();

ServingState serving_state(const Standing &standing);

/// What a state means.
struct StateMeaning {
  std::string_view name;
  bool takes_new;  // new connections go to it
  bool is_wanted;  // counts among those of which a quorum is a share: the operator has not taken it out
};

const StateMeaning &meaning_of(ServingState state);

/// Whether a drain has nothing left to wait for.
bool is_over(const model::DrainProgress &drain);

/// The standing of one backend.
Standing standing_of(const model::Pool &pool, const model::BackendSpec &backend,
                     const model::OperatorOrder *order, const model::BackendCondition &condition);

/// Its state, out of the whole observed state.
ServingState serving_state_of(const model::Pool &pool, const model::BackendSpec &backend,
                              const model::ObservedState &observed);

}  // namespace sluice

#endif
