#include "controlplane/api/render.h"

#include <spdlog/fmt/fmt.h>

#include "controlplane/model/address_text.h"

namespace sluice::api {

namespace {

using nlohmann::json;

json to_json(const BackendCounts &counts) {
  json body = {{"removed", counts.removed}};
  for (size_t i = 0; i < kServingStateCount; i++) {
    body[std::string(meaning_of(static_cast<ServingState>(i)).name)] = counts.by_state[i];
  }
  return body;
}

json to_json(const std::optional<QuorumView> &quorum) {
  if (!quorum) return nullptr;
  return {{"serving", quorum->count.serving}, {"wanted", quorum->count.wanted}, {"min", quorum->min},
          {"recover", quorum->recover},       {"below", quorum->is_below},      {"text", quorum->text}};
}

template <typename Value>
json or_null(const std::optional<Value> &value) {
  return value ? json(*value) : json();
}

json to_json(const std::optional<ConfirmationView> &waits) {
  if (!waits) return nullptr;
  return {{"revision", waits->revision}, {"back_to", waits->back_to}, {"left_s", waits->left_s}};
}

json to_json(const std::optional<ConnectionForecast> &connections) {
  if (!connections) return nullptr;
  return {{"live", connections->live},
          {"moved", connections->moved},
          {"broken", connections->broken},
          {"until_deadline", connections->until_deadline}};
}

// Services of which nothing changes are only counted.
json to_json(const Forecast &forecast) {
  json services = json::array();
  size_t unaffected = 0;
  for (const ServiceForecast &each : forecast.services) {
    const bool is_affected =
        each.goes || each.moved > 0 ||
        (each.connections && (each.connections->moved > 0 || each.connections->broken > 0 ||
                              each.connections->until_deadline > 0));
    if (!is_affected) {
      unaffected++;
      continue;
    }
    services.push_back({{"service", each.service},
                        {"goes", each.goes},
                        {"slots", each.slots},
                        {"moved_share", each.moved},
                        {"connections", to_json(each.connections)}});
  }
  return {{"services", std::move(services)}, {"unaffected_services", unaffected}};
}

json to_json(const DataplaneView &view) {
  return {{"connected", view.connected}, {"state", view.state},     {"socket", view.socket},
          {"engine", view.engine},       {"version", view.version}, {"snapshot", view.snapshot},
          {"details", view.details}};
}

json to_json(const BackendTotals &traffic) {
  return {{"packets", traffic.packets},
          {"bytes", traffic.bytes},
          {"opened_connections", traffic.opened_connections},
          {"active_connections", traffic.active_connections},
          {"tcp_opens", traffic.tcp_opens},
          {"tcp_progresses", traffic.tcp_progresses},
          {"tcp_repeated_opens", traffic.tcp_repeated_opens},
          {"tcp_resets", traffic.tcp_resets},
          {"unreachables", traffic.unreachables}};
}

json to_json(const CounterTotals &totals) {
  return {{"received_packets", totals.received_packets},
          {"received_bytes", totals.received_bytes},
          {"transmitted_packets", totals.transmitted_packets},
          {"transmitted_bytes", totals.transmitted_bytes},
          {"kernel_packets", totals.kernel_packets},
          {"steered_packets", totals.steered_packets},
          {"evicted_entries", totals.evicted_entries},
          {"expired_entries", totals.expired_entries},
          {"adoption_lookups", totals.adoption_lookups},
          {"busy_cycles", totals.busy_cycles},
          {"total_cycles", totals.total_cycles}};
}

std::string port_text(const model::PortSpan &span) {
  if (span.is_all()) return "all";
  if (span.first == span.last) return std::to_string(span.first);
  return fmt::format("{}-{}", span.first, span.last);
}

const char *connection_state_text(ConnectionState state) {
  switch (state) {
    case kConnectionEmbryonic:
      return "embryonic";
    case kConnectionEstablished:
      return "established";
    case kConnectionClosing:
      return "closing";
    case kConnectionEmpty:
      break;
  }
  return "empty";
}

json to_json(const ConnectionRecord &record) {
  return {{"protocol", record.udp ? "udp" : "tcp"},
          {"client", format_address(record.client)},
          {"client_port", record.client_port},
          {"vip", format_address(record.vip)},
          {"vip_port", record.vip_port},
          {"service", record.service},
          {"pool", record.pool},
          {"backend", record.backend},
          {"state", connection_state_text(record.state)},
          {"idle_s", record.idle_s},
          {"timeout_s", record.timeout_s},
          {"worker", record.table}};
}

const char *status_title(unsigned status) {
  switch (status) {
    case 400:
      return "Bad request";
    case 401:
      return "Not authenticated";
    case 403:
      return "Not allowed";
    case 404:
      return "Not found";
    case 405:
      return "Method not allowed";
    case 409:
      return "Conflict";
    case 412:
      return "Changed since";
    case 413:
      return "Body too large";
    case 422:
      return "Cannot be carried out";
    case 429:
      return "Too many requests";
    case 431:
      return "Header too large";
    case 502:
      return "Refused by the dataplane";
    case 503:
      return "Dataplane unreachable";
    default:
      return "Internal error";
  }
}

}  // namespace

const char *verdict_class_name(Verdict verdict) {
  switch (verdict_class(verdict)) {
    case kVerdictClassForward:
      return "forward";
    case kVerdictClassReply:
      return "reply";
    case kVerdictClassPass:
      return "pass";
    case kVerdictClassDrop:
      break;
  }
  return "drop";
}

json to_json(const std::vector<SourceReport> &sources) {
  json list = json::array();
  for (const SourceReport &source : sources) {
    const auto ms_or_null = [](const std::optional<std::chrono::milliseconds> &time) {
      return time ? json(time->count()) : json();
    };
    list.push_back({{"pool", source.pool},
                    {"type", source.type},
                    {"source", source.source},
                    {"state", source_state_name(source.state)},
                    {"text", source.text},
                    {"backends", source.backends},
                    {"skipped", source.skipped},
                    {"skipped_count", source.skipped_count},
                    {"last_answer_age_ms", ms_or_null(source.last_answer_age)},
                    {"next_try_ms", ms_or_null(source.next_try)},
                    {"failures", source.failures}});
  }
  return list;
}

json to_json(const Plan &plan) {
  return {{"at_once", to_json(plan.at_once)}, {"once_up", plan.once_up ? to_json(*plan.once_up) : json()}};
}

json to_json(const Revision &revision) {
  return {{"revision", revision.number}, {"at_unix_ms", revision.at_unix_ms},
          {"author", revision.author},   {"from", revision.origin},
          {"action", revision.action},   {"subject", revision.subject},
          {"message", revision.message}, {"snapshot", revision.snapshot},
          {"changes", revision.changes}, {"configuration", revision.configuration}};
}

json to_json(const StatusView &status) {
  return {{"version", status.version},
          {"started_unix_s", status.started_unix_s},
          {"uptime_s", status.uptime_s},
          {"clock_step_s", status.clock_step_s},
          {"config",
           {{"path", status.config_path},
            {"loaded_unix_s", status.config_loaded_unix_s},
            {"differs_from_file", status.config_differs},
            {"api_certificate", status.api_certificate},
            {"problem", status.config_problem}}},
          {"revision", status.revision},
          {"confirmation", to_json(status.confirmation)},
          {"snapshot", status.snapshot},
          {"pending", status.pending},
          {"services", status.services},
          {"pools", status.pools},
          {"backends", to_json(status.backends)},
          {"health",
           {{"targets", status.health.targets},
            {"through_dataplane", status.health.through_dataplane},
            {"through_dataplane_checks", status.health.through_dataplane_checks},
            {"running", status.health.running},
            {"waiting", status.health.waiting},
            {"max_concurrent", status.health.max_concurrent},
            {"worst_lateness_ms", status.health.worst_lateness_ms}}},
          {"discovery", to_json(status.sources)},
          {"dataplane", to_json(status.dataplane)}};
}

json to_json(const ServiceView &view) {
  const model::Service &service = view.service;
  json vips = json::array();
  for (const Address &vip : service.vips) vips.push_back(format_address(vip));
  json ports = json::array();
  for (const model::PortSpan &span : service.ports) ports.push_back(port_text(span));
  return {{"name", service.name},
          {"vips", std::move(vips)},
          {"protocol", service.protocol == model::Protocol::kTcp ? "tcp" : "udp"},
          {"ports", std::move(ports)},
          {"pool", service.pool},
          {"scheduler", service.scheduler == model::Scheduler::kMaglev ? "maglev" : "least-connection"},
          {"timeouts_s",
           {{"embryonic", service.timeouts.embryonic.count()},
            {"established", service.timeouts.established.count()},
            {"closing", service.timeouts.closing.count()},
            {"udp", service.timeouts.udp.count()}}},
          {"backends", to_json(view.backends)},
          {"quorum", to_json(view.quorum)},
          {"packets", view.traffic.packets},
          {"bytes", view.traffic.bytes}};
}

json to_json(const BackendView &backend) {
  const double share =
      backend.pool_slots == 0 ? 0.0 : static_cast<double>(backend.slots) / backend.pool_slots;
  json body = to_json(backend.traffic);
  body.update({{"pool", backend.pool},
               {"name", backend.name},
               {"id", backend.id},
               {"address", format_address(backend.address)},
               {"state", backend.state},
               {"reason", backend.reason},
               {"weight", backend.weight},
               {"configured_weight", or_null(backend.configured_weight)},
               {"scheduled_weight", backend.scheduled_weight},
               {"priority", backend.priority},
               {"source", backend.source},
               {"connections_left", or_null(backend.connections_left)},
               {"drain_ends_s", or_null(backend.drain_ends_s)},
               {"drain_over", backend.drain_over},
               {"health", backend.health},
               {"last_check", backend.last_check},
               {"check_age_ms", backend.check_age_ms},
               {"slots", backend.slots},
               {"slot_share", share}});
  return body;
}

json to_json(const ConnectionList &connections) {
  json records = json::array();
  for (const ConnectionRecord &record : connections.records) records.push_back(to_json(record));
  json body = {{"connections", std::move(records)}, {"matched", connections.matched}};
  if (connections.next) body["next_cursor"] = std::to_string(*connections.next);
  return body;
}

json to_json(const CountersView &counters) {
  json verdicts = json::array();
  for (size_t i = 0; i < kVerdictCount; i++) {
    json workers = json::array();
    for (const CounterTotals &worker : counters.workers) workers.push_back(worker.verdict_packets[i]);
    verdicts.push_back({{"name", verdict_texts()[i].metric},
                        {"class", verdict_class_name(static_cast<Verdict>(i))},
                        {"help", verdict_texts()[i].help},
                        {"packets", counters.totals.verdict_packets[i]},
                        {"workers", std::move(workers)}});
  }
  json workers = json::array();
  for (const CounterTotals &worker : counters.workers) workers.push_back(to_json(worker));
  json services = json::array();
  for (const ServiceView &view : counters.services) {
    services.push_back(
        {{"name", view.service.name}, {"packets", view.traffic.packets}, {"bytes", view.traffic.bytes}});
  }
  json backends = json::array();
  for (const BackendView &view : counters.backends) {
    json backend = to_json(view.traffic);
    backend.update({{"pool", view.pool}, {"name", view.name}, {"id", view.id}});
    backends.push_back(std::move(backend));
  }
  return {{"started_unix_ns", counters.started_unix_ns},
          {"verdicts", std::move(verdicts)},
          {"totals", to_json(counters.totals)},
          {"workers", std::move(workers)},
          {"services", std::move(services)},
          {"backends", std::move(backends)}};
}

json to_json(const ConfigError &error) {
  return {{"file", error.file},   {"line", error.line},   {"column", error.column},
          {"field", error.field}, {"value", error.value}, {"message", error.message}};
}

Response json_response(unsigned status, const json &body) {
  Response response;
  response.status = status;
  response.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
  response.body += '\n';
  return response;
}

Response problem(unsigned status, const std::string &detail, const std::vector<ConfigError> &errors) {
  json body = {
      {"type", "about:blank"}, {"title", status_title(status)}, {"status", status}, {"detail", detail}};
  if (!errors.empty()) {
    json list = json::array();
    for (const ConfigError &error : errors) list.push_back(to_json(error));
    body["errors"] = std::move(list);
  }
  Response response = json_response(status, body);
  response.content_type = "application/problem+json";
  return response;
}

}  // namespace sluice::api
