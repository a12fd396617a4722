// sluiced's connection to the dataplane: when to try again, whether it is still there, and what is
// mapped of its memory.
#ifndef SLUICE_CONTROLPLANE_SLUICED_DATAPLANE_LINK_H
#define SLUICE_CONTROLPLANE_SLUICED_DATAPLANE_LINK_H

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "controlplane/publish/dataplane_client.h"

namespace sluice {

class DataplaneLink {
 public:
  using Clock = std::chrono::steady_clock;

  explicit DataplaneLink(std::filesystem::path socket_path) : path_(std::move(socket_path)) {}

  /// Connects if it is not connected and the time to try again has come. True only when this call made
  /// a new connection.
  bool connect_when_due(Clock::time_point now);

  /// The same whether or not it is time.
  bool connect_now();

  /// Notices between requests that the dataplane went away. True when the connection was lost.
  bool notice_loss();

  bool connected() const { return client_.has_value() && client_->connected(); }
  /// In words: "connected", or why not.
  std::string state() const;
  const std::filesystem::path &path() const { return path_; }
  /// Of the last connection, empty before the first.
  const DataplaneHello &hello() const { return hello_; }

  /// As DataplaneClient's. When not connected, an error that says so.
  Result<Publication> publish(const SnapshotBytes &snapshot);
  Result<std::optional<SnapshotBytes>> snapshot();
  Result<nlohmann::json> status();
  Result<nlohmann::json> explain(const nlohmann::json &fields);

  /// Mapped at the first call after a connection was made; valid until the next call that is not const.
  Result<const CounterView *> counters();
  Result<const ConnectionView *> connections();

 private:
  Error unreachable() const;
  template <typename Value>
  Result<Value> noticing_loss(Result<Value> answer);
  void drop(const std::string &why);

  std::filesystem::path path_;
  std::optional<DataplaneClient> client_;
  std::optional<CounterView> counters_;
  std::optional<ConnectionView> connections_;
  DataplaneHello hello_;
  std::string problem_ = "not tried yet";
  Clock::time_point next_try_{};
  std::chrono::milliseconds backoff_{0};
};

}  // namespace sluice

#endif
