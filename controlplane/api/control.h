// What the API asks of the daemon, and the views that it shows. The daemon implements it
// (controlplane/sluiced), tests and the fuzzer do too.
#ifndef SLUICE_CONTROLPLANE_API_CONTROL_H
#define SLUICE_CONTROLPLANE_API_CONTROL_H

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "controlplane/config/config_loader.h"
#include "controlplane/discovery/found.h"
#include "controlplane/discovery/pool_feed.h"
#include "controlplane/health/check_totals.h"
#include "controlplane/lifecycle/quorum.h"
#include "controlplane/lifecycle/serving_state.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/plan/forecast.h"
#include "controlplane/publish/connection_reader.h"
#include "controlplane/publish/counter_reader.h"
#include "controlplane/store/revision_store.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

struct DataplaneView {
  bool connected = false;
  std::string state;       // in words: "connected", "unreachable: ...", "refused revision 7: ..."
  std::string socket;      // path
  std::string engine;      // empty while never connected
  std::string version;     // empty while never connected
  uint64_t snapshot = 0;   // the one in force there, as far as known; 0: none
  nlohmann::json details;  // what the dataplane says of itself; null when it is not connected
};

struct BackendCounts {
  std::array<uint64_t, kServingStateCount> by_state{};  // by ServingState
  uint64_t removed = 0;                                 // no longer configured, kept for their connections
};

struct HealthView {
  uint64_t targets = 0;
  uint64_t through_dataplane = 0;         // of the targets: checked through the data path
  uint64_t through_dataplane_checks = 0;  // such checks that ended since sluiced started
  uint64_t running = 0;
  uint64_t waiting = 0;
  uint64_t max_concurrent = 0;
  double worst_lateness_ms = 0;  // of a check's start, behind its schedule, since sluiced started
};

/// A configuration that goes again unless it is confirmed.
struct ConfirmationView {
  uint64_t revision = 0;
  uint64_t back_to = 0;  // the revision whose configuration comes back
  int64_t left_s = 0;
};

struct StatusView {
  std::string version;
  int64_t started_unix_s = 0;
  int64_t uptime_s = 0;
  int64_t clock_step_s = 0;  // by which the host's clock was set forward since then
  std::string config_path;
  int64_t config_loaded_unix_s = 0;
  std::string api_certificate;  // file; empty: the API listens on its socket alone
  bool config_differs = false;  // what is in force is not what was in the file when it was read last
  std::string config_problem;   // why the last reload was refused; empty: it was not
  uint64_t revision = 0;        // of the last change
  uint64_t snapshot = 0;        // the last one made
  std::optional<ConfirmationView> confirmation;  // that is waited for
  bool pending = false;                          // there are changes that the dataplane does not have yet
  uint64_t services = 0;
  uint64_t pools = 0;
  BackendCounts backends;
  HealthView health;
  std::vector<SourceReport> sources;  // of discovery
  DataplaneView dataplane;
};

/// How a service stands to its quorum.
struct QuorumView {
  PoolCount count;
  uint64_t min = 0;      // so many backends that take new connections, or it is below
  uint64_t recover = 0;  // so many end that
  bool is_below = false;
  std::string text;  // what it does, in words; empty while it is not below
};

struct ServiceView {
  model::Service service;
  BackendCounts backends;  // of its pool
  std::optional<QuorumView> quorum;
  ServiceTotals traffic;
};

struct BackendView {
  std::string pool;
  std::string name;
  Address address{};
  uint16_t id = 0;                            // in snapshots; 0: none yet
  std::string state;                          // a ServingState's name, or "removed"
  std::string reason;                         // of the state, in words; empty when there is nothing to say
  uint16_t weight = 0;                        // that it is to have
  std::optional<uint16_t> configured_weight;  // which `weight` is instead of, by the operator
  uint16_t scheduled_weight = 0;
  uint16_t priority = 0;
  std::string
      source;  // "configuration", or what found it: "dns web.example (srv)"; empty when it was removed
  std::optional<uint64_t> connections_left;  // while it is drained and that is known
  std::optional<int64_t> drain_ends_s;       // seconds until its connections are given up
  bool drain_over = false;                   // none are left, or they were given up
  std::string health;        // up, failing, down, unknown; "unchecked" in a pool without checks
  std::string last_check;    // its result in words; empty without checks
  int64_t check_age_ms = 0;  // since the last check ended
  uint32_t slots = 0;        // of its pool's table
  uint32_t pool_slots = 0;   // entries of its pool's table; 0: nobody takes new connections
  BackendTotals traffic;
};

struct CountersView {
  uint64_t started_unix_ns = 0;
  CounterTotals totals;
  std::vector<CounterTotals> workers;
  std::vector<ServiceView> services;
  std::vector<BackendView> backends;
};

/// Which of many objects have series of their own.
enum class MetricsChoice {
  kAuto,  // all, up to kMaxSeriesObjects of them; beyond that of the backends only those without new
          // connections
  kAll,
  kNone,
};
inline constexpr size_t kMaxSeriesObjects = 2000;

struct MetricsFilter {
  MetricsChoice services = MetricsChoice::kAuto;
  MetricsChoice pools = MetricsChoice::kAuto;
  MetricsChoice backends = MetricsChoice::kAuto;
  std::optional<std::string> pool;  // this one, its services and backends only
};

struct PoolMetrics {
  std::string name;
  uint64_t backends = 0;
  uint64_t serving = 0;  // of them: those that take new connections
};

struct BackendMetrics {
  std::string pool;
  std::string name;
  std::string_view state;  // a ServingState's name
  bool is_up = false;      // it takes new connections
  uint16_t weight = 0;
  uint32_t slots = 0;
  BackendTotals traffic;
};

struct WorkerMetrics {
  CounterTotals totals;
  std::optional<double> busy_ratio;  // of its time; none where the engine does not count it
};

/// What a monitoring system reads, gathered without a text that it does not show.
struct MetricsView {
  StatusView status;
  CheckTotalsByKind checks;
  bool has_counters = false;  // the dataplane was reachable; what follows of traffic is 0 else
  CounterTotals totals;
  std::vector<WorkerMetrics> workers;
  uint64_t connections = 0;      // embryonic and established
  uint64_t connection_room = 0;  // entries of all workers' tables, both families
  std::vector<ServiceView> services;
  std::vector<PoolMetrics> pools;
  std::vector<BackendMetrics> backends;
  uint64_t services_left_out = 0;
  uint64_t pools_left_out = 0;
  uint64_t backends_left_out = 0;
};

/// Who wants a change, and how it is to be made.
struct Terms {
  std::string author = "sluiced";
  std::string origin;                                  // where the author is
  std::string message;                                 // the author's own words
  std::string document_name = "request body";          // what errors of a configuration call it
  bool dry_run = false;                                // say what would become of it, and change nothing
  bool force = false;                                  // also when it moves more than max_moved
  std::optional<std::chrono::seconds> confirm_within;  // a configuration goes again unless it is confirmed
};

/// What a change would do to packets.
struct Plan {
  Forecast at_once;
  std::optional<Forecast> once_up;  // when all backends that are not known yet are up, and no start is slow;
                                    // absent: the same
};

/// What became of a request to change something.
struct ChangeResult {
  enum class Outcome {
    kApplied,        // in force in the dataplane
    kPending,        // taken over; the dataplane gets it when it is reachable again
    kUnchanged,      // it was so already
    kPlanned,        // a dry run: nothing has changed
    kNotFound,       // nothing has that name
    kConflict,       // the configuration says otherwise
    kTooMuch,        // it would move more than max_moved
    kInvalidConfig,  // `errors` say why
    kRefused,        // by the dataplane or by a limit; nothing has changed
  };
  Outcome outcome = Outcome::kApplied;
  std::string message;
  uint64_t snapshot = 0;  // with which it is in force, or will be
  std::vector<ConfigError> errors;
  uint64_t revision = 0;   // its number; 0: it is none
  nlohmann::json changes;  // as document_changes(); null: none are known
  std::optional<Plan> plan;

  /// Nothing of it is taken over.
  bool is_nothing() const { return outcome >= Outcome::kPlanned; }
};

/// What the dataplane says of one packet.
struct Explained {
  enum class Outcome { kExplained, kRefused, kUnreachable };
  Outcome outcome = Outcome::kExplained;
  std::string message;    // unless it is explained: why not
  nlohmann::json answer;  // as docs/api.md says
};

class Control {
 public:
  virtual ~Control() = default;

  virtual StatusView status() = 0;
  /// Whether there is one of that name: configured, or still in the dataplane.
  virtual bool has_service(const std::string &name) = 0;
  virtual bool has_pool(const std::string &name) = 0;
  /// In any pool when none is given.
  virtual bool has_backend(const std::optional<std::string> &pool, const std::string &name) = 0;
  /// Of one service when `name` is given; empty when there is none of that name.
  virtual std::vector<ServiceView> services(const std::optional<std::string> &name) = 0;
  /// Of one pool when `pool` is given; empty when there is none of that name.
  virtual std::vector<BackendView> backends(const std::optional<std::string> &pool) = 0;
  /// Fails while the dataplane is unreachable.
  virtual Result<ConnectionList> connections(const ConnectionFilter &filter) = 0;
  /// `fields`: the request's (dataplane/abi/control_protocol.h).
  virtual Explained explain(const nlohmann::json &fields) = 0;
  /// Fails while the dataplane is unreachable.
  virtual Result<CountersView> counters() = 0;
  virtual MetricsView metrics(const MetricsFilter &filter) = 0;

  /// Names every state of what can be changed: another one after each change, also of a sluiced that started
  /// anew.
  virtual std::string version() = 0;
  /// Why sluiced cannot do its work just now; it can when there is nothing.
  virtual Status readiness() = 0;
  /// Which services use a pool, also as their backup pool.
  virtual std::vector<std::string> services_of_pool(const std::string &pool) = 0;
  /// What the audit log says of a backend; null when there is none.
  virtual nlohmann::json backend_summary(const model::BackendKey &key) = 0;

  /// Without a deadline: the pool's, if it has one; with model::kNoDeadline none.
  virtual ChangeResult drain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                             const Terms &terms) = 0;
  virtual ChangeResult undrain(const model::BackendKey &key, const Terms &terms) = 0;
  virtual ChangeResult maintain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                                const Terms &terms) = 0;
  virtual ChangeResult end_maintenance(const model::BackendKey &key, const Terms &terms) = 0;
  /// Without a weight the configured one counts again.
  virtual ChangeResult set_weight(const model::BackendKey &key, std::optional<uint16_t> weight,
                                  const Terms &terms) = 0;

  /// The configuration file is the configuration.
  virtual ChangeResult reload(const Terms &terms) = 0;
  /// `document` is.
  virtual ChangeResult apply(const std::string &document, const Terms &terms) = 0;
  /// What it was after a revision.
  virtual ChangeResult roll_back(uint64_t revision, const Terms &terms) = 0;
  /// It may stay: the revision that waits for this.
  virtual ChangeResult confirm(uint64_t revision, const Terms &terms) = 0;

  /// The number of the last change; 0: there was none.
  virtual uint64_t newest_revision() = 0;
  /// The text of the configuration that is wanted.
  virtual std::string document() = 0;
  /// The newest first: those below `before` (0: all), at most `limit`.
  virtual Result<std::vector<Revision>> revisions(uint64_t before, size_t limit) = 0;
  /// Nothing when it is not there, or no longer.
  virtual Result<std::optional<Revision>> revision(uint64_t number) = 0;
  /// The text of the configuration after it. Nothing when it is not kept.
  virtual Result<std::optional<std::string>> document_of(uint64_t number) = 0;

  /// Every pool's source of backends.
  virtual std::vector<SourceReport> discovery() = 0;
  /// A backend says that it is there, or goes.
  virtual ChangeResult put_registration(const std::string &pool, const FoundBackend &backend) = 0;
  virtual ChangeResult remove_registration(const std::string &pool, const std::string &name) = 0;
};

}  // namespace sluice::api

#endif
