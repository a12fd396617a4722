// The API's view of the control loop.
#ifndef SLUICE_CONTROLPLANE_SLUICED_CONTROL_API_H
#define SLUICE_CONTROLPLANE_SLUICED_CONTROL_API_H

#include <string>
#include <vector>

#include "controlplane/api/control.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

/// Called on the control loop's thread only.
class ControlApi : public api::Control {
 public:
  /// `reconciler` must outlive it.
  ControlApi(Reconciler *reconciler, int64_t started_unix_s)
      : reconciler_(*reconciler), started_unix_s_(started_unix_s) {}

  api::StatusView status() override;
  bool has_service(const std::string &name) override;
  bool has_pool(const std::string &name) override;
  bool has_backend(const std::optional<std::string> &pool, const std::string &name) override;
  std::vector<api::ServiceView> services(const std::optional<std::string> &name) override;
  std::vector<api::BackendView> backends(const std::optional<std::string> &pool) override;
  Result<ConnectionList> connections(const ConnectionFilter &filter) override;
  api::Explained explain(const nlohmann::json &fields) override;
  Result<api::CountersView> counters() override;
  api::MetricsView metrics(const api::MetricsFilter &filter) override;
  std::string version() override;
  Status readiness() override;
  std::vector<std::string> services_of_pool(const std::string &pool) override;
  nlohmann::json backend_summary(const model::BackendKey &key) override;
  api::ChangeResult drain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                          const api::Terms &terms) override {
    return reconciler_.drain(key, deadline, terms);
  }
  api::ChangeResult undrain(const model::BackendKey &key, const api::Terms &terms) override {
    return reconciler_.undrain(key, terms);
  }
  api::ChangeResult maintain(const model::BackendKey &key, std::optional<std::chrono::seconds> deadline,
                             const api::Terms &terms) override {
    return reconciler_.maintain(key, deadline, terms);
  }
  api::ChangeResult end_maintenance(const model::BackendKey &key, const api::Terms &terms) override {
    return reconciler_.end_maintenance(key, terms);
  }
  api::ChangeResult set_weight(const model::BackendKey &key, std::optional<uint16_t> weight,
                               const api::Terms &terms) override {
    return reconciler_.set_weight(key, weight, terms);
  }
  api::ChangeResult reload(const api::Terms &terms) override { return reconciler_.reload(terms); }
  api::ChangeResult apply(const std::string &document, const api::Terms &terms) override {
    return reconciler_.apply_document(document, terms);
  }
  api::ChangeResult roll_back(uint64_t revision, const api::Terms &terms) override {
    return reconciler_.roll_back(revision, terms);
  }
  api::ChangeResult confirm(uint64_t revision, const api::Terms &terms) override {
    return reconciler_.confirm(revision, terms);
  }
  uint64_t newest_revision() override { return reconciler_.history().newest(); }
  std::string document() override { return reconciler_.history().document(); }
  Result<std::vector<Revision>> revisions(uint64_t before, size_t limit) override {
    return reconciler_.history().revisions(before, limit);
  }
  Result<std::optional<Revision>> revision(uint64_t number) override {
    return reconciler_.history().revision(number);
  }
  Result<std::optional<std::string>> document_of(uint64_t number) override {
    return reconciler_.history().document_of(number);
  }
  std::vector<SourceReport> discovery() override { return reconciler_.sources(); }
  api::ChangeResult put_registration(const std::string &pool, const FoundBackend &backend) override {
    return reconciler_.put_registration(pool, backend);
  }
  api::ChangeResult remove_registration(const std::string &pool, const std::string &name) override {
    return reconciler_.remove_registration(pool, name);
  }

 private:
  // The workers' cycles at one moment, and how busy they were up to it.
  struct BusyReading {
    std::chrono::steady_clock::time_point at;
    std::vector<CounterTotals> totals;
    std::vector<std::optional<double>> ratios;
  };

  void add_traffic(const CounterView &region, api::MetricsView *view);
  void add_backends(const api::MetricsFilter &filter, const std::vector<BackendTotals> &totals,
                    api::MetricsView *view) const;
  std::optional<api::QuorumView> quorum_of(const model::Service &service, const PoolCount &count) const;

  Reconciler &reconciler_;
  int64_t started_unix_s_;
  BusyReading busy_;
  model::SteadyTime started_ = std::chrono::steady_clock::now();
};

}  // namespace sluice

#endif
