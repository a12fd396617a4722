// The client of the dataplane's control socket (dataplane/abi/control_protocol.h).
#ifndef SLUICE_CONTROLPLANE_PUBLISH_DATAPLANE_CLIENT_H
#define SLUICE_CONTROLPLANE_PUBLISH_DATAPLANE_CLIENT_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "controlplane/model/snapshot_view.h"
#include "controlplane/publish/file_descriptor.h"
#include "controlplane/publish/region.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// What the dataplane says of itself.
struct DataplaneHello {
  std::string engine;     // "dpdk" or "xdp"
  std::string version;    // of sluice-dataplane
  uint64_t revision = 0;  // of the snapshot in force; 0: none
};

/// What became of a snapshot that the dataplane took.
struct Publication {
  uint64_t revision = 0;        // in force now
  std::string storage_problem;  // why it is not on the dataplane's disk; empty: it is
};

/// Why the snapshot in force is not on the dataplane's disk, out of an answer to `publish` or `status`;
/// empty: it is, or there is none.
std::string storage_problem(const nlohmann::json &answer);

/// One connection to the control socket. Calls block for at most `timeout`. After an error of the
/// connection itself (closed, late, not understood) `connected()` is false and every call fails:
/// connecting anew, and when, is the caller's policy. A refusal by the dataplane leaves it connected.
class DataplaneClient {
 public:
  /// Connects and says hello. Fails with both versions named when the dataplane speaks another
  /// protocol, or has other versions of the snapshot, connection or counter records.
  static Result<DataplaneClient> connect(const std::filesystem::path &socket_path,
                                         std::chrono::milliseconds timeout);

  bool connected() const { return socket_.valid(); }
  const DataplaneHello &hello() const { return hello_; }
  /// To poll between requests: readable means that the dataplane has closed the connection.
  int descriptor() const { return socket_.get(); }

  /// Passes a snapshot in a sealed memfd. An error means that the snapshot of before stays. One that the
  /// dataplane could not store is in force, but a dataplane that starts anew would not have it: publish it
  /// again.
  Result<Publication> publish(std::span<const std::byte> snapshot);

  /// The snapshot in force, copied; nothing when the dataplane has none. Not yet checked: SnapshotView.
  Result<std::optional<SnapshotBytes>> snapshot();

  /// The dataplane's status for people: engine, ports, workers, next hops, memory.
  Result<nlohmann::json> status();

  /// What each stage finds about a packet: the answer's fields, as the protocol says. `fields`: the
  /// request's.
  Result<nlohmann::json> explain(const nlohmann::json &fields);

  /// The counter region, mapped read-only and checked. It lives as long as the dataplane: ask again
  /// after connecting anew.
  Result<CounterView> counters();

  /// The connection region, mapped read-only and checked. Lives as counters() does.
  Result<ConnectionView> connections();

 private:
  struct Answer {
    nlohmann::json body;
    FileDescriptor descriptor;  // may be invalid: no descriptor came
  };

  DataplaneClient(FileDescriptor socket, std::chrono::milliseconds timeout)
      : socket_(std::move(socket)), timeout_(timeout) {}

  Status say_hello();
  Result<Answer> request(const std::string &name, const FileDescriptor *passed,
                         const nlohmann::json &fields = nlohmann::json::object());
  Result<Answer> receive_answer(uint64_t id, std::chrono::steady_clock::time_point deadline);
  Status send_message(const std::string &text, const FileDescriptor *passed,
                      std::chrono::steady_clock::time_point deadline);
  Error lost(const std::string &why);

  FileDescriptor socket_;
  std::chrono::milliseconds timeout_;
  std::filesystem::path path_;
  DataplaneHello hello_;
  uint64_t next_id_ = 1;
};

}  // namespace sluice

#endif
