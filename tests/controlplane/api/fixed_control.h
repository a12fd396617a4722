// A daemon with one service, two backends and nothing behind them: for tests of the API itself.
#ifndef SLUICE_TESTS_CONTROLPLANE_API_FIXED_CONTROL_H
#define SLUICE_TESTS_CONTROLPLANE_API_FIXED_CONTROL_H

#include <map>
#include <string>
#include <vector>

#include "controlplane/api/caller.h"
#include "controlplane/api/control.h"

namespace sluice::api {

/// What whoever may open the socket of a host without further rules is.
inline Caller administrator() { return {"test", "unix", "", model::Grant{.role = model::Role::kAdmin}}; }

class FixedControl : public Control {
 public:
  /// What was asked of it, in order: "drain web/b1", "connections client=192.0.2.1".
  std::vector<std::string> calls;
  Terms last_terms;  // of the last change
  ChangeResult answer{
      .outcome = ChangeResult::Outcome::kApplied, .message = "in force", .snapshot = 7, .revision = 9};
  bool dataplane_reachable = true;
  ConnectionFilter last_filter;
  nlohmann::json last_explained;
  nlohmann::json explained_service = "web";
  std::map<std::string, std::vector<std::string>> pool_users = {{"web", {"web"}}};

  StatusView status() override {
    StatusView view;
    view.version = "1.2.3";
    view.dataplane.state = "connected";
    view.dataplane.connected = true;
    return view;
  }

  bool has_service(const std::string &name) override { return name == "web"; }
  bool has_pool(const std::string &name) override { return name == "web"; }
  bool has_backend(const std::optional<std::string> &pool, const std::string &name) override {
    return name == "b1" && pool.value_or("web") == "web";
  }

  std::vector<ServiceView> services(const std::optional<std::string> &name) override {
    ServiceView view;
    view.service.name = "web";
    view.service.vips = {*parse_address("198.51.100.10"), *parse_address("2001:db8::10")};
    view.service.ports = {{80, 80}, {8000, 8999}};
    view.service.pool = "web";
    view.backends.by_state[static_cast<size_t>(ServingState::kUp)] = 1;
    view.traffic = {.packets = 10, .bytes = 1000};
    if (name.has_value() && *name != view.service.name) return {};
    return {view};
  }

  std::vector<BackendView> backends(const std::optional<std::string> &pool) override {
    if (pool.has_value() && *pool != "web") return {};
    BackendView b1;
    b1.pool = "web";
    b1.name = "b1";
    b1.address = *parse_address("10.1.0.11");
    b1.id = 1;
    b1.state = "up";
    b1.source = "configuration";
    b1.weight = 100;
    b1.health = "up";
    b1.last_check = "HTTP status 200";
    b1.slots = 3;
    b1.pool_slots = 4;
    BackendView b2 = b1;
    b2.name = "b2 \xff";  // names come from elsewhere: not even UTF-8 is certain
    b2.state = "down";
    b2.reason = "connection refused";
    b2.slots = 1;
    return {b1, b2};
  }

  Result<ConnectionList> connections(const ConnectionFilter &filter) override {
    last_filter = filter;
    calls.push_back("connections");
    if (!dataplane_reachable) return Error{"dataplane unreachable: nobody listens"};
    ConnectionRecord record;
    record.client = *parse_address("192.0.2.1");
    record.vip = *parse_address("198.51.100.10");
    record.client_port = 40000;
    record.vip_port = 80;
    record.state = kConnectionEstablished;
    record.idle_s = 3;
    record.timeout_s = 900;
    record.service = "web";
    record.pool = "web";
    record.backend = "b1";
    return ConnectionList{.records = {record}, .matched = 5};
  }

  Explained explain(const nlohmann::json &fields) override {
    last_explained = fields;
    calls.push_back("explain");
    if (!dataplane_reachable)
      return {.outcome = Explained::Outcome::kUnreachable,
              .message = "dataplane unreachable: nobody listens"};
    if (fields.value("worker", 0) > 1)
      return {.outcome = Explained::Outcome::kRefused, .message = "worker: there are 0 to 1"};
    return {.answer = {{"verdict", "forward_new"}, {"service", explained_service}, {"stages", {}}}};
  }

  Result<CountersView> counters() override {
    if (!dataplane_reachable) return Error{"dataplane unreachable: nobody listens"};
    CountersView view;
    view.totals.verdict_packets[kVerdictForwardNew] = 42;
    view.workers = {view.totals};
    view.services = services(std::nullopt);
    view.backends = backends(std::nullopt);
    return view;
  }

  MetricsView metrics(const MetricsFilter &filter) override {
    calls.push_back("metrics " + filter.pool.value_or("of all pools"));
    MetricsView view;
    view.status = status();
    view.status.dataplane.engine = "xdp";
    view.status.sources = discovery();
    CheckTotals checks;
    checks.count(CheckOutcome::kSuccess, std::chrono::milliseconds(1));
    checks.count(CheckOutcome::kSuccess, std::chrono::milliseconds(3));
    checks.count(CheckOutcome::kFailure, std::chrono::seconds(6));
    checks.count(CheckOutcome::kNotCarriedOut, std::chrono::seconds(1));
    view.checks = {{"http", checks}};
    view.has_counters = dataplane_reachable;
    view.totals.verdict_packets[kVerdictForwardNew] = 42;
    view.totals.verdict_packets[kVerdictDropNoBackend] = 7;
    view.workers = {{view.totals, 0.25}, {view.totals, std::nullopt}};
    view.connections = 3;
    view.connection_room = 1024;
    if (filter.services != MetricsChoice::kNone) view.services = services(std::nullopt);
    if (filter.pools != MetricsChoice::kNone) view.pools = {{"web", 2, 1}};
    BackendMetrics backend{
        .pool = "web", .name = "b1", .state = "up", .is_up = true, .weight = 100, .slots = 3};
    backend.traffic.packets = 11;
    if (filter.backends != MetricsChoice::kNone)
      view.backends = {backend, {.pool = "we\"b\\\n", .name = "b2", .state = "down"}};
    view.backends_left_out = 5;
    return view;
  }

  std::string version() override { return "5f-" + std::to_string(calls.size()); }
  Status readiness() override {
    if (!dataplane_reachable) return Error{"dataplane unreachable: nobody listens"};
    return Done{};
  }
  std::vector<std::string> services_of_pool(const std::string &pool) override {
    const auto found = pool_users.find(pool);
    return found == pool_users.end() ? std::vector<std::string>() : found->second;
  }
  nlohmann::json backend_summary(const model::BackendKey &key) override {
    if (key.text() != "web/b1") return nullptr;
    return {{"state", calls.empty() ? "up" : "changed"}};
  }

  ChangeResult drain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                     const Terms &terms) override {
    return change("drain " + key.text() + deadline_text(deadline), terms);
  }
  ChangeResult maintain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                        const Terms &terms) override {
    return change("maintain " + key.text() + deadline_text(deadline), terms);
  }
  ChangeResult end_maintenance(const model::BackendKey &key, const Terms &terms) override {
    return change("end maintenance " + key.text(), terms);
  }
  ChangeResult undrain(const model::BackendKey &key, const Terms &terms) override {
    return change("undrain " + key.text(), terms);
  }
  ChangeResult set_weight(const model::BackendKey &key, std::optional<uint16_t> weight,
                          const Terms &terms) override {
    return change("weigh " + key.text() + " " + (weight ? std::to_string(*weight) : "as configured"), terms);
  }
  ChangeResult reload(const Terms &terms) override { return change("reload", terms); }
  ChangeResult apply(const std::string &text, const Terms &terms) override {
    return change("apply " + std::to_string(text.size()) + " bytes", terms);
  }
  ChangeResult roll_back(uint64_t number, const Terms &terms) override {
    return change("roll back to " + std::to_string(number), terms);
  }
  ChangeResult confirm(uint64_t number, const Terms &terms) override {
    return change("confirm " + std::to_string(number), terms);
  }
  uint64_t newest_revision() override { return 3; }
  std::string document() override { return "version: 1\nservices: []\npools: []\n"; }
  Result<std::vector<Revision>> revisions(uint64_t before, size_t limit) override {
    std::vector<Revision> list;
    for (uint64_t number = before == 0 ? 3 : before - 1; number > 0 && list.size() < limit; number--)
      list.push_back(fixed_revision(number));
    return list;
  }
  Result<std::optional<Revision>> revision(uint64_t number) override {
    return number > 3 ? std::nullopt : std::optional(fixed_revision(number));
  }
  Result<std::optional<std::string>> document_of(uint64_t number) override {
    if (number > 3) return std::optional<std::string>();
    return std::optional("version: " + std::to_string(number) + "\n");
  }

  std::vector<SourceReport> discovery() override {
    SourceReport report;
    report.pool = "web";
    report.type = "dns";
    report.source = "dns web.example (srv)";
    report.state = SourceState::kFailing;
    report.text = "server 10.0.0.1 did not answer";
    report.backends = 5;
    report.skipped = {"target \"b\xff\" has no address"};
    report.skipped_count = 1;
    report.next_try = std::chrono::milliseconds(8000);
    return {report};
  }
  ChangeResult put_registration(const std::string &pool, const FoundBackend &backend) override {
    return change("register " + pool + "/" + backend.name + " at " + format_address(backend.address) +
                  " for " + std::to_string(backend.ttl.count()) + " ms");
  }
  ChangeResult remove_registration(const std::string &pool, const std::string &name) override {
    return change("deregister " + pool + "/" + name);
  }

 private:
  static std::string deadline_text(std::optional<std::chrono::seconds> deadline) {
    return deadline ? " within " + std::to_string(deadline->count()) : "";
  }
  static Revision fixed_revision(uint64_t number) {
    return {.number = number,
            .author = "ci",
            .origin = {},
            .action = "apply",
            .subject = {},
            .message = "\xff",
            .changes = nlohmann::json::array(),
            .configuration = number};
  }
  ChangeResult change(std::string call, const Terms &terms = {}) {
    last_terms = terms;
    calls.push_back(std::move(call));
    return answer;
  }
};

}  // namespace sluice::api

#endif
