// The control loop's state: what is wanted, what is so, and what the dataplane has; and the one way in
// which they become a snapshot.
#ifndef SLUICE_CONTROLPLANE_SLUICED_RECONCILER_H
#define SLUICE_CONTROLPLANE_SLUICED_RECONCILER_H

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "controlplane/api/control.h"
#include "controlplane/compile/compiler.h"
#include "controlplane/discovery/discoverer.h"
#include "controlplane/health/monitor.h"
#include "controlplane/lifecycle/lifecycle.h"
#include "controlplane/model/identifiers.h"
#include "controlplane/sluiced/carry_over.h"
#include "controlplane/sluiced/client_watch.h"
#include "controlplane/sluiced/configuration_history.h"
#include "controlplane/sluiced/dataplane_link.h"
#include "controlplane/sluiced/held_snapshot.h"
#include "controlplane/sluiced/unix_clock.h"
#include "controlplane/store/state_store.h"

namespace sluice {

/// Used by the control loop's thread only. Calls to the dataplane block for as long as DataplaneLink
/// says; health checks go on meanwhile, on their own thread.
class Reconciler {
 public:
  struct Parts {
    std::filesystem::path config_path;
    model::DesiredState desired;
    StateStore store;
    DataplaneLink link;
    FlowHashKey stored_flow_hash_key{};
    ConfigurationHistory history{};
    std::string config_problem{};  // why the file is not what is begun with; empty: it is, or was
  };

  explicit Reconciler(Parts parts);

  /// Recovers identifiers and health from the dataplane's snapshot, or, while it is unreachable, from
  /// the stored one; then publishes what differs. `monitor` must outlive the reconciler, and so must
  /// `discoverer`, without which nothing is found. Fails when the state directory cannot be read, or the
  /// configuration breaks a limit.
  Status start(HealthMonitor *monitor, Discoverer *discoverer = nullptr);

  /// To be called several times a second: connects, notices a lost dataplane, goes on with slow starts, holds
  /// and drains, frees what has passed its grace, retries what was refused, stores what was published.
  void tick();

  /// A backend's health has changed. The change waits for apply_pending(), so that many go out as one.
  /// `address` is the backend's own: the change says nothing of one that has another by now.
  void note_health(const model::BackendKey &key, const Address &address, model::Health health,
                   const std::string &reason);

  /// What is found of the pools' backends has changed. Waits for apply_pending(), too.
  void note_found() { found_noted_ = true; }

  /// Publishes noted changes, if there are any.
  void apply_pending();

  /// Each answers when the dataplane has the change (or is known to be unreachable: then it is pending).
  /// When the dataplane comes back and refuses what is pending, configuration and drains go back to what
  /// it accepted last.
  /// A change of an operator's that would move more than `max_moved` allows, as the configuration in force
  /// says, is refused unless the terms force it. A dry run says what would become of it.
  api::ChangeResult drain(const model::BackendKey &key,
                          std::optional<std::chrono::seconds> deadline = std::nullopt,
                          const api::Terms &terms = {});
  api::ChangeResult undrain(const model::BackendKey &key, const api::Terms &terms = {});
  /// Like drain(), and the backend is not checked meanwhile; then it has to prove itself like a new one.
  api::ChangeResult maintain(const model::BackendKey &key,
                             std::optional<std::chrono::seconds> deadline = std::nullopt,
                             const api::Terms &terms = {});
  api::ChangeResult end_maintenance(const model::BackendKey &key, const api::Terms &terms = {});
  /// Until it is set anew, or given back (nothing) to the configuration or the source that found the backend.
  api::ChangeResult set_weight(const model::BackendKey &key, std::optional<uint16_t> weight,
                               const api::Terms &terms = {});

  /// The configuration file becomes the configuration.
  api::ChangeResult reload(const api::Terms &terms = {});
  /// The text becomes it, and stays until the file is another one or is reloaded.
  api::ChangeResult apply_document(const std::string &document, const api::Terms &terms);
  /// What was the configuration after that revision becomes it again. Orders and weights stay as they are.
  api::ChangeResult roll_back(uint64_t revision, const api::Terms &terms);
  /// What was applied for a time may stay.
  api::ChangeResult confirm(uint64_t revision, const api::Terms &terms);
  const ConfigurationHistory &history() const { return history_; }

  /// A backend of a pool of type registration says that it is there, or goes.
  api::ChangeResult put_registration(const std::string &pool, const FoundBackend &backend);
  api::ChangeResult remove_registration(const std::string &pool, const std::string &name);
  /// Every pool's source of backends.
  std::vector<SourceReport> sources() const;

  /// How often what is wanted has changed: configuration, orders, what is found.
  uint64_t changes() const { return changes_; }

  /// What else a reload takes over: reads what a configuration names, and gives what puts it into force.
  using Preparation = std::function<Result<std::function<void()>>(const model::DesiredState &)>;
  /// A reload is refused when it fails. Its errors begin with a field's name and ": ".
  void prepare_reloads_by(Preparation preparation) { preparation_ = std::move(preparation); }

  /// Stores the last published snapshot and the holds. For the end.
  void flush();

  const std::filesystem::path &config_path() const { return config_path_; }
  const std::string &config_problem() const { return config_problem_; }
  int64_t config_loaded_unix_s() const { return config_loaded_unix_s_; }
  /// The configuration, with what is found.
  const model::DesiredState &desired() const { return desired_; }
  const model::ObservedState &observed() const { return observed_; }
  DataplaneLink &link() { return link_; }
  const HealthMonitor &monitor() const { return *monitor_; }
  Moment now() const { return clock_.now(); }
  /// How far the host's clock was set forward (back, if negative) since sluiced started.
  std::chrono::seconds clock_step() const { return clock_step_; }
  /// The last snapshot that was made, and the identifiers in it; nullptr before the first.
  const HeldSnapshot *latest() const { return latest_.get(); }
  const model::Identifiers &latest_identifiers() const { return *latest_identifiers_; }
  /// The snapshot that the dataplane has, as far as known; nullptr: none.
  const HeldSnapshot *in_force() const { return in_force_.get(); }
  /// Whether the dataplane lacks the latest snapshot.
  bool pending() const { return pending_; }
  /// What passive health says of a backend, in words; empty: nothing.
  std::string passive_text(const model::BackendKey &key) const;
  /// Why passive health, where it is wanted, sees nothing; empty: it does.
  const std::string &blindness() const { return blindness_; }
  /// Why the dataplane refused the last snapshot; empty: it did not.
  const std::string &refusal() const { return refusal_; }
  /// Why the snapshot in force is not on the dataplane's disk; empty: it is.
  const std::string &storage_problem() const { return storage_problem_; }

 private:
  using Clock = std::chrono::steady_clock;
  using Outcome = api::ChangeResult::Outcome;

  // Of flap damping.
  struct Hold {
    Address address{};
    model::SteadyTime until;
    size_t falls = 0;
    bool is_well = false;

    bool operator==(const Hold &) const = default;
  };

  struct Made {
    std::shared_ptr<const HeldSnapshot> snapshot;
    std::shared_ptr<const model::Identifiers> ids;
  };
  Result<Made> make(const model::DesiredState &desired, model::ObservedState *observed);
  api::ChangeResult apply(const model::DesiredState &desired, model::ObservedState *observed);
  api::ChangeResult apply_begun(const model::DesiredState &desired, model::ObservedState *observed);
  api::ChangeResult publish(std::shared_ptr<const HeldSnapshot> made,
                            std::shared_ptr<const model::Identifiers> ids);
  api::ChangeResult unchanged(const std::string &how) const;
  api::ChangeResult change_members(model::DesiredState next);

  // Another text that is to be the configuration.
  struct NextConfiguration {
    ConfigurationHistory::Change change;
    std::string name;  // of the text, in errors
    std::string text;
  };
  api::ChangeResult change_configuration(NextConfiguration next, const api::Terms &terms);
  api::ChangeResult use_configuration(NextConfiguration next, model::DesiredState loaded,
                                      const std::function<void()> &use_prepared, const api::Terms &terms);
  api::ChangeResult refuse_configuration(const NextConfiguration &next, const api::Terms &terms,
                                         std::vector<ConfigError> errors);
  void end_unconfirmed(Clock::time_point now);
  Result<model::DesiredState> with_weights(Result<model::DesiredState> desired,
                                           const OperatorWeights &weights) const;
  Result<model::DesiredState> wanted_state(const model::DesiredState &configured,
                                           const FoundPools &found) const;
  void note_order(const std::string &action, const model::BackendKey &key, const nlohmann::json &before,
                  const nlohmann::json &after, const api::Terms &terms, api::ChangeResult *applied);

  std::optional<api::ChangeResult> look_ahead(const model::DesiredState &desired,
                                              model::ObservedState observed, const api::Terms &terms,
                                              std::optional<api::Plan> *plan);
  std::optional<Forecast> forecast_once_up(const model::DesiredState &desired, model::ObservedState observed,
                                           ForecastInput input);
  std::set<uint16_t> new_deadlines(const model::ObservedState &next, const model::Identifiers &ids) const;
  std::string above_max_moved(const api::Plan &plan) const;
  void begin_discovery();
  void begin_with_less(api::ChangeResult *applied);
  api::ChangeResult apply_found();
  api::ChangeResult try_found(const FoundPools &pools);
  api::ChangeResult try_pool_by_pool(const FoundPools &wanted, const api::ChangeResult &refused);
  FoundPools wanted_found(const model::DesiredState &configured, Clock::time_point now) const;
  std::vector<std::string> changed_pools(const FoundPools &wanted) const;
  void postpone(const std::string &pool, const FoundPools &wanted, const std::string &why);
  void note_refused(const std::string &pool, const FoundPools &wanted, const std::string &why);
  void note_used(const FoundPools &pools);
  void note_found_retry(Clock::time_point now);
  api::ChangeResult after(const std::string &pool, const Registered &registered);
  void take_over(model::DesiredState desired, model::ObservedState observed, Outcome outcome);
  void fall_back(const std::string &why);
  void keep_orders(const OperatorOrders &orders);
  void note_storage(const std::string &problem);
  void store_snapshot();
  void publish_again();
  void settle(std::shared_ptr<const HeldSnapshot> made, std::shared_ptr<const model::Identifiers> ids);
  Status recover_from_store();
  void reconnect();
  void sync_with_dataplane();
  void adopt(std::shared_ptr<const HeldSnapshot> theirs);
  model::ObservedState known_of(const model::DesiredState &next) const;
  void set_targets();

  // What the checks' ways depend on.
  struct CheckWay {
    bool ports_away = false;
    std::shared_ptr<const HeldSnapshot> snapshot;  // whose flows the dataplane takes for checks

    bool operator==(const CheckWay &) const = default;
  };
  CheckWay check_way() const;
  CheckPaths check_paths() const;
  void follow_check_way();
  void note_engine();

  api::ChangeResult set_order(const model::BackendKey &key, const model::OperatorOrder &order,
                              const api::Terms &terms);
  api::ChangeResult lift_of_absent(const model::BackendKey &key, model::OrderKind kind,
                                   const api::Terms &terms);
  api::ChangeResult lift_order(const model::BackendKey &key, const api::Terms &terms);
  api::ChangeResult apply_orders(const model::BackendKey &key, OperatorOrders orders,
                                 const api::Terms &terms);
  bool begin_pending_orders(model::ObservedState *observed) const;
  std::optional<Member> find_member(const model::BackendKey &key) const;

  void note_members();
  void note_clock();
  std::map<model::BackendKey, Hold> holds() const;
  void restore_holds();
  void keep_holds();

  // Brings every backend's condition, and the services' quorums, up to now.
  void settle_all(const model::DesiredState &desired, model::ObservedState *observed) const;
  void settle(const model::BackendKey &key);
  void settle_restless();
  std::optional<uint64_t> connections_of(const model::BackendKey &key) const;
  void count_connections();
  void log_quorums(const std::set<std::string> &below_before) const;

  // What the dataplane sees of clients is judged, and becomes part of the conditions.
  void judge_clients();
  const CounterView *seen_counters(OutlierTime now);
  void note_blindness(const std::string &why);
  void watch_clients();
  void note_client_event(const ClientWatch::Event &event);
  void note_outlier(const model::BackendKey &key, OutlierState state);
  void note_standing(const model::BackendKey &key);

  std::filesystem::path config_path_;
  UnixClock clock_;
  std::chrono::seconds clock_step_{0};
  ConfigurationHistory history_;
  Clock::time_point next_roll_back_{};  // of what was not confirmed
  OperatorWeights weights_;             // instead of the configured ones
  model::DesiredState configured_;      // what the operator wrote
  model::DesiredState desired_;         // configured_ with what is found, and weights_
  model::ObservedState observed_;
  using Place = ClientWatch::Place;
  std::unordered_map<model::BackendKey, Place> places_;  // in desired_
  std::unordered_set<model::BackendKey> restless_;       // whose condition time alone changes
  std::vector<BackendTotals> totals_;                    // by identifier; only while a backend is drained
  Clock::time_point next_count_{};
  ClientWatch clients_;
  bool clients_are_old_ = true;     // whom to watch is to be seen anew
  uint64_t clients_changes_ = 0;    // Identifiers::backend_changes() that clients_ is of
  std::string blindness_;           // why nothing is seen of clients; empty: it is
  Clock::time_point next_sight_{};  // when to try again
  StateStore store_;
  DataplaneLink link_;
  FlowHashKey stored_flow_hash_key_{};
  HealthMonitor *monitor_ = nullptr;
  std::string engine_;  // of the dataplane, when it was there last
  CheckWay check_way_;
  bool was_connected_ = false;
  Clock::time_point ports_back_{};    // of a DPDK engine
  CheckPaths check_paths_;            // that the monitor's targets were made with
  Discoverer *discoverer_ = nullptr;  // none: nothing is found
  Compiler compiler_;

  std::shared_ptr<const model::Identifiers> identifiers_;         // in force
  std::shared_ptr<const model::Identifiers> latest_identifiers_;  // of `latest_`
  std::shared_ptr<const HeldSnapshot> in_force_;
  std::shared_ptr<const HeldSnapshot> latest_;
  uint64_t highest_revision_ = 0;  // ever seen: the next is higher

  // What the operator can change, as the dataplane accepted it last, while later changes are pending.
  // Nothing while none are, or when this sluiced has not had any accepted.
  struct Accepted {
    model::DesiredState configured;
    std::string document;        // of `configured`
    uint64_t configuration = 0;  // and its revision
    model::DesiredState desired;
    OperatorOrders orders;
    OperatorWeights weights;
    FoundPools found;
  };
  std::optional<Accepted> fallback_;
  bool accepted_ = false;  // desired_ and orders are what the dataplane has

  // What was found and could not be used, of one pool: the others go on, and this is tried again.
  struct RefusedFound {
    std::shared_ptr<const std::vector<FoundBackend>> backends;
    std::string why;
    std::chrono::seconds backoff{0};
    Clock::time_point next_try{};
  };
  FoundPools used_found_;  // in desired_
  std::map<std::string, RefusedFound> refused_found_;

  std::string config_problem_;
  int64_t config_loaded_unix_s_ = 0;
  std::string refusal_;
  bool pending_ = false;                          // the dataplane lacks `latest_`
  bool noted_ = false;                            // observed_ has changed since the last apply
  bool found_noted_ = false;                      // what is found may have changed since
  bool store_is_old_ = false;                     // in_force_ is not stored yet
  std::map<model::BackendKey, Hold> kept_holds_;  // as stored
  Clock::time_point next_hold_store_{};
  Clock::time_point next_store_{};
  std::string storage_problem_;  // of the dataplane: published again until it is gone
  std::chrono::seconds storage_backoff_{0};
  uint64_t changes_ = 0;
  Preparation preparation_;
  Clock::time_point next_publication_{};
  Clock::time_point next_review_{};  // of removed backends, and of what was refused
};

}  // namespace sluice

#endif
