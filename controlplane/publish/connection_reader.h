// Connections as plain records: what `sluicectl connections` lists.
#ifndef SLUICE_CONTROLPLANE_PUBLISH_CONNECTION_READER_H
#define SLUICE_CONTROLPLANE_PUBLISH_CONNECTION_READER_H

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/model/snapshot_view.h"
#include "controlplane/publish/region.h"

namespace sluice {

/// One entry of a connection table.
struct ConnectionSighting {
  Address client{};
  Address vip{};             // all zeros: the snapshot has no VIP of the entry's number any more
  uint16_t client_port = 0;  // host order
  uint16_t vip_port = 0;     // host order
  bool udp = false;
  ConnectionState state = kConnectionEmpty;
  uint32_t idle_s = 0;     // since its last packet, modulo 8192
  uint32_t timeout_s = 0;  // that ends it in this state; 0: the snapshot knows none
  uint16_t backend_id = 0;
  uint32_t table = 0;                  // of which worker
  uint64_t place = 0;                  // of the entry, counted through all tables from 1
  std::optional<uint32_t> service_id;  // absent: no service of the snapshot takes it

  bool is_expired() const { return timeout_s != 0 && idle_s > timeout_s; }
};

/// Calls `visit` for every entry of every table behind the place `after`. `boottime_s` is CLOCK_BOOTTIME now,
/// which the entries' stamps count in. An entry that its worker writes at the same moment is read again,
/// never mixed.
void visit_connections(const ConnectionView &region, const SnapshotView &snapshot, uint64_t boottime_s,
                       uint64_t after, const std::function<void(const ConnectionSighting &)> &visit);

/// One entry of a connection table, with the names that the snapshot gives its identifiers.
struct ConnectionRecord : ConnectionSighting {
  std::string service;  // empty: no service of the snapshot takes it
  std::string pool;     // empty: the snapshot does not know the backend
  std::string backend;  // empty: the snapshot does not know the backend
};

/// Which connections: all conditions that are set must hold.
struct ConnectionFilter {
  std::optional<Address> client;
  std::optional<Address> vip;
  std::optional<uint16_t> vip_port;  // host order
  std::optional<std::string> service;
  std::optional<std::vector<std::string>> services;  // one of them
  std::optional<std::string> pool;
  std::optional<std::string> backend;
  std::optional<uint64_t> after;  // only what stands behind this place of the tables
  bool include_expired = false;   // also entries that have outlived their timeout
  uint64_t limit = 1000;          // records to list; the rest is only counted
};

struct ConnectionList {
  std::vector<ConnectionRecord> records;  // in the tables' order: no order at all for people
  uint64_t matched = 0;                   // with those that the limit left out
  std::optional<uint64_t> next;           // the last record's place; absent: there is nothing behind it
};

/// Walks every table once: visit_connections().
ConnectionList list_connections(const ConnectionView &region, const SnapshotView &snapshot,
                                const ConnectionFilter &filter, uint64_t boottime_s);

}  // namespace sluice

#endif
