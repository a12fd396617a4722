#include "controlplane/api/metrics.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/render.h"

namespace sluice::api {

namespace {

using Label = std::pair<std::string_view, std::string_view>;
using Labels = std::initializer_list<Label>;

// Writes one family after the other, each with its help and type.
class Exposition {
 public:
  void counter(std::string_view name, std::string_view help) { family(name, help, "counter"); }
  void gauge(std::string_view name, std::string_view help) { family(name, help, "gauge"); }
  void histogram(std::string_view name, std::string_view help) { family(name, help, "histogram"); }

  /// Of the family that was begun last.
  template <typename Number>
  void sample(Labels labels, Number value) {
    suffixed("", labels, value);
  }

  template <typename Number>
  void suffixed(std::string_view suffix, Labels labels, Number value) {
    text_ += name_;
    text_ += suffix;
    write(labels);
    fmt::format_to(std::back_inserter(text_), " {}\n", value);
  }

  std::string take() { return std::move(text_); }

 private:
  void family(std::string_view name, std::string_view help, std::string_view type) {
    name_ = name;
    fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }

  void write(Labels labels) {
    if (labels.size() == 0) return;
    char separator = '{';
    for (const auto &[name, value] : labels) {
      text_ += separator;
      text_ += name;
      text_ += "=\"";
      for (const char byte : value) {
        if (byte == '\\' || byte == '"') text_ += '\\';
        if (byte == '\n') {
          text_ += "\\n";
        } else {
          text_ += byte;
        }
      }
      text_ += '"';
      separator = ',';
    }
    text_ += '}';
  }

  std::string text_;
  std::string_view name_;
};

void write_control_plane(const StatusView &status, Exposition *out) {
  out->gauge("sluice_build_info", "Version of sluiced; always 1.");
  out->sample({{"version", status.version}}, 1);
  out->gauge("sluice_start_time_seconds", "When sluiced started, Unix time.");
  out->sample({}, status.started_unix_s);
  out->gauge("sluice_config_revision", "Number of the last change: sluicectl revisions.");
  out->sample({}, status.revision);
  out->gauge("sluice_snapshot_number",
             "Number of the snapshot that the dataplane forwards by; 0: none is known.");
  out->sample({}, status.dataplane.snapshot);
  out->gauge("sluice_config_pending", "1 while there are changes that the dataplane does not have yet.");
  out->sample({}, status.pending ? 1 : 0);
  out->gauge("sluice_config_reload_successful", "0 when the last reload of the configuration was refused.");
  out->sample({}, status.config_problem.empty() ? 1 : 0);
  out->gauge("sluice_config_load_time_seconds", "When the configuration in use was loaded, Unix time.");
  out->sample({}, status.config_loaded_unix_s);
  out->gauge("sluice_dataplane_connected", "1 while sluiced is connected to sluice-dataplane.");
  out->sample({}, status.dataplane.connected ? 1 : 0);
  if (!status.dataplane.engine.empty()) {
    out->gauge("sluice_dataplane_info",
               "Engine and version of the dataplane that was connected last; always 1.");
    out->sample({{"engine", status.dataplane.engine}, {"version", status.dataplane.version}}, 1);
  }
  out->gauge("sluice_backends",
             "Backends in each state; removed: no longer configured, kept for their connections.");
  for (size_t i = 0; i < kServingStateCount; i++)
    out->sample({{"state", meaning_of(static_cast<ServingState>(i)).name}}, status.backends.by_state[i]);
  out->sample({{"state", "removed"}}, status.backends.removed);
}

void write_discovery(const std::vector<SourceReport> &sources, Exposition *out) {
  if (sources.empty()) return;
  out->gauge("sluice_discovery_healthy",
             "1 while the pool's source of backends answers with what can be used.");
  for (const SourceReport &source : sources)
    out->sample({{"pool", source.pool}, {"type", source.type}}, source.state == SourceState::kOk ? 1 : 0);
  out->gauge("sluice_discovery_backends", "Backends that the pool's source found and that are used.");
  for (const SourceReport &source : sources)
    out->sample({{"pool", source.pool}, {"type", source.type}}, source.backends);
  out->gauge("sluice_discovery_skipped_entries", "Entries of the source's last answer that cannot be used.");
  for (const SourceReport &source : sources)
    out->sample({{"pool", source.pool}, {"type", source.type}}, source.skipped_count);
}

constexpr std::pair<CheckOutcome, std::string_view> kOutcomes[] = {
    {CheckOutcome::kSuccess, "success"},
    {CheckOutcome::kFailure, "failure"},
    {CheckOutcome::kNotCarriedOut, "not_carried_out"},
};

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

void write_checks(const MetricsView &view, Exposition *out) {
  out->gauge("sluice_health_check_targets", "Backends that are checked.");
  out->sample({}, view.status.health.targets);
  out->gauge("sluice_health_check_worst_lateness_seconds",
             "The furthest that any check began behind its schedule since sluiced started.");
  out->sample({}, view.status.health.worst_lateness_ms / 1000);
  if (view.checks.empty()) return;
  out->counter("sluice_health_checks_total", "Health checks that have ended, by kind and outcome.");
  for (const auto &[kind, totals] : view.checks) {
    for (const auto &[outcome, name] : kOutcomes)
      out->sample({{"type", kind}, {"outcome", name}}, totals.by_outcome[static_cast<size_t>(outcome)]);
  }
  out->histogram("sluice_health_check_duration_seconds",
                 "How long health checks took that were carried out, failed ones with their timeout.");
  for (const auto &[kind, totals] : view.checks) {
    uint64_t sum = 0;
    for (size_t i = 0; i < CheckTotals::kBounds.size(); i++) {
      sum += totals.taken[i];
      const std::string bound = fmt::format("{}", seconds(CheckTotals::kBounds[i]));
      out->suffixed("_bucket", {{"type", kind}, {"le", bound}}, sum);
    }
    sum += totals.taken.back();
    out->suffixed("_bucket", {{"type", kind}, {"le", "+Inf"}}, sum);
    out->suffixed("_sum", {{"type", kind}}, seconds(totals.sum));
    out->suffixed("_count", {{"type", kind}}, sum);
  }
}

void write_verdicts(const CounterTotals &totals, Exposition *out) {
  out->counter("sluice_packets_total", "Received packets by the verdict that each ended with.");
  for (size_t i = 0; i < kVerdictCount; i++) {
    const auto verdict = static_cast<Verdict>(i);
    out->sample({{"verdict", verdict_texts()[i].metric}, {"class", verdict_class_name(verdict)}},
                totals.verdict_packets[i]);
  }
  out->counter("sluice_drops_total", "Received packets that were dropped, by reason.");
  for (size_t i = 0; i < kVerdictCount; i++) {
    if (verdict_class(static_cast<Verdict>(i)) != kVerdictClassDrop) continue;
    std::string_view reason = verdict_texts()[i].metric;
    reason.remove_prefix(std::string_view("drop_").size());
    out->sample({{"reason", reason}}, totals.verdict_packets[i]);
  }
}

struct WorkerCounter {
  const char *name;
  const char *help;
  uint64_t CounterTotals::*count;
};
constexpr WorkerCounter kWorkerCounters[] = {
    {"sluice_worker_received_packets_total", "Packets that the worker received.",
     &CounterTotals::received_packets},
    {"sluice_worker_received_bytes_total", "Bytes of the frames that the worker received.",
     &CounterTotals::received_bytes},
    {"sluice_worker_transmitted_packets_total", "Packets that the worker sent on.",
     &CounterTotals::transmitted_packets},
    {"sluice_worker_transmitted_bytes_total", "Bytes of the frames that the worker sent on.",
     &CounterTotals::transmitted_bytes},
    {"sluice_worker_kernel_packets_total", "Packets from the kernel that the worker sent.",
     &CounterTotals::kernel_packets},
    {"sluice_worker_steered_packets_total", "Packets handed to the worker that owns the flow.",
     &CounterTotals::steered_packets},
    {"sluice_worker_evicted_connections_total", "Embryonic connections that made room for others.",
     &CounterTotals::evicted_entries},
    {"sluice_worker_expired_connections_total", "Connections that timed out.",
     &CounterTotals::expired_entries},
    {"sluice_worker_adoption_lookups_total",
     "Packets for which the tables of other workers were looked into.", &CounterTotals::adoption_lookups},
};

void write_workers(const std::vector<WorkerMetrics> &workers, Exposition *out) {
  for (const WorkerCounter &each : kWorkerCounters) {
    out->counter(each.name, each.help);
    for (size_t i = 0; i < workers.size(); i++)
      out->sample({{"worker", std::to_string(i)}}, workers[i].totals.*each.count);
  }
  const auto is_known = [](const WorkerMetrics &worker) { return worker.busy_ratio.has_value(); };
  if (std::ranges::none_of(workers, is_known)) return;
  out->gauge("sluice_worker_busy_ratio",
             "Share of the worker's time since the last reading that it spent on packets.");
  for (size_t i = 0; i < workers.size(); i++)
    if (workers[i].busy_ratio) out->sample({{"worker", std::to_string(i)}}, *workers[i].busy_ratio);
}

void write_traffic(const MetricsView &view, Exposition *out) {
  if (!view.has_counters) return;
  write_verdicts(view.totals, out);
  write_workers(view.workers, out);
  out->gauge("sluice_connections", "Embryonic and established connections in the tables.");
  out->sample({}, view.connections);
  out->gauge("sluice_connection_table_entries", "Entries that the tables of all workers have room for.");
  out->sample({}, view.connection_room);
}

// Direct return: what backends answer does not pass here.
void write_services(const MetricsView &view, Exposition *out) {
  if (view.services.empty()) return;
  if (view.has_counters) {
    out->counter("sluice_service_packets_total", "Packets of clients to the service (in).");
    for (const ServiceView &each : view.services)
      out->sample({{"service", each.service.name}, {"direction", "in"}}, each.traffic.packets);
    out->counter("sluice_service_bytes_total", "Bytes of the frames of clients to the service (in).");
    for (const ServiceView &each : view.services)
      out->sample({{"service", each.service.name}, {"direction", "in"}}, each.traffic.bytes);
  }
  out->gauge("sluice_service_info", "Pool, protocol and scheduler of the service; always 1.");
  for (const ServiceView &each : view.services) {
    const model::Service &service = each.service;
    out->sample(
        {{"service", service.name},
         {"pool", service.pool},
         {"protocol", service.protocol == model::Protocol::kTcp ? "tcp" : "udp"},
         {"scheduler", service.scheduler == model::Scheduler::kMaglev ? "maglev" : "least-connection"}},
        1);
  }
  out->gauge("sluice_service_below_quorum", "1 while the service has too few backends, by its quorum.");
  for (const ServiceView &each : view.services)
    if (each.quorum) out->sample({{"service", each.service.name}}, each.quorum->is_below ? 1 : 0);
}

void write_pools(const std::vector<PoolMetrics> &pools, Exposition *out) {
  if (pools.empty()) return;
  out->gauge("sluice_pool_backends", "Backends of the pool.");
  for (const PoolMetrics &pool : pools) out->sample({{"pool", pool.name}}, pool.backends);
  out->gauge("sluice_pool_serving_backends", "Backends of the pool that take new connections.");
  for (const PoolMetrics &pool : pools) out->sample({{"pool", pool.name}}, pool.serving);
}

struct BackendCounter {
  const char *name;
  const char *help;
  uint64_t BackendTotals::*count;
};
constexpr BackendCounter kBackendCounters[] = {
    {"sluice_backend_packets_total", "Packets forwarded to the backend.", &BackendTotals::packets},
    {"sluice_backend_bytes_total", "Bytes, as received, of the frames forwarded to the backend.",
     &BackendTotals::bytes},
    {"sluice_backend_opened_connections_total", "Connections that were opened to the backend.",
     &BackendTotals::opened_connections},
    {"sluice_backend_repeated_opens_total", "SYNs of clients that got no answer of the backend in time.",
     &BackendTotals::tcp_repeated_opens},
    {"sluice_backend_resets_total", "Connections that their client broke off.", &BackendTotals::tcp_resets},
    {"sluice_backend_unreachables_total", "ICMP errors that say that packets did not reach the backend.",
     &BackendTotals::unreachables},
};

void write_backends(const MetricsView &view, Exposition *out) {
  const std::vector<BackendMetrics> &backends = view.backends;
  if (backends.empty()) return;
  const auto family = [&](auto value) {
    for (const BackendMetrics &each : backends)
      out->sample({{"pool", each.pool}, {"backend", each.name}}, value(each));
  };
  out->gauge("sluice_backend_up", "1 while the backend takes new connections.");
  family([](const BackendMetrics &each) { return each.is_up ? 1 : 0; });
  out->gauge("sluice_backend_state", "The backend's state, which is the label; always 1.");
  for (const BackendMetrics &each : backends)
    out->sample({{"pool", each.pool}, {"backend", each.name}, {"state", each.state}}, 1);
  out->gauge("sluice_backend_weight", "Configured weight.");
  family([](const BackendMetrics &each) { return each.weight; });
  out->gauge("sluice_backend_slots", "Slots of the pool's table that are the backend's.");
  family([](const BackendMetrics &each) { return each.slots; });
  if (!view.has_counters) return;
  out->gauge("sluice_backend_connections", "Embryonic and established connections to the backend.");
  family([](const BackendMetrics &each) { return each.traffic.active_connections; });
  for (const BackendCounter &counter : kBackendCounters) {
    out->counter(counter.name, counter.help);
    family([&](const BackendMetrics &each) { return each.traffic.*counter.count; });
  }
}

}  // namespace

Result<MetricsFilter> parse_metrics_filter(const std::map<std::string, std::string> &query) {
  MetricsFilter filter;
  for (const auto &[name, value] : query) {
    if (name == "pool") {
      filter.pool = value;
      continue;
    }
    MetricsChoice &choice = name == "services" ? filter.services
                            : name == "pools"  ? filter.pools
                                               : filter.backends;
    if (value == "all") {
      choice = MetricsChoice::kAll;
    } else if (value == "none") {
      choice = MetricsChoice::kNone;
    } else if (value != "auto") {
      return Error{
          fmt::format("query parameter {}: \"{}\" is not known; allowed: auto, all, none", name, value)};
    }
  }
  return filter;
}

std::string render_metrics(const MetricsView &view) {
  Exposition out;
  write_control_plane(view.status, &out);
  write_discovery(view.status.sources, &out);
  write_checks(view, &out);
  write_traffic(view, &out);
  write_services(view, &out);
  write_pools(view.pools, &out);
  write_backends(view, &out);
  out.gauge("sluice_metrics_left_out", "Services, pools and backends without series in this answer.");
  out.sample({{"kind", "services"}}, view.services_left_out);
  out.sample({{"kind", "pools"}}, view.pools_left_out);
  out.sample({{"kind", "backends"}}, view.backends_left_out);
  return out.take();
}

}  // namespace sluice::api
