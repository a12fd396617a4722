// Live tables for tests of `explain`: those of workers in plain memory, who also decide.
#ifndef SLUICE_TESTS_SERVER_EXPLAIN_FIXTURE_H
#define SLUICE_TESTS_SERVER_EXPLAIN_FIXTURE_H

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "dataplane/server/explain.h"
#include "dataplane/server/snapshot_store.h"
#include "tests/core/test_tables.h"

namespace sluice {

/// What workers with these tables have, which outlives it. `workers`: so many of them; the others' tables
/// are of former workers.
inline LiveTables live_tables(const ForwardingTables *forwarding, const std::vector<TestTables *> &tables,
                              uint32_t workers, uint32_t now_s) {
  LiveTables live;
  live.forwarding = forwarding;
  for (const TestTables *each : tables)
    live.connections.push_back({{each->ipv4_buckets(), each->ipv6_buckets()}});
  live.workers = workers;
  live.active_connections = [tables](uint32_t worker, uint16_t backend) {
    return tables_active_connections(&tables[worker]->tables(), backend);
  };
  live.now_s = now_s;
  return live;
}

inline ForwardingTables forwarding_tables(const SnapshotBuilder &builder, const TestTables &tables) {
  ForwardingTables forwarding;
  auto snapshot = MappedSnapshot::from_bytes(builder.build());
  if (!snapshot.ok()) throw std::runtime_error(snapshot.error().message);
  forwarding.snapshot = std::move(snapshot).value();
  forwarding.egress.assign(tables->egress, tables->egress + tables->backend_count);
  return forwarding;
}

}  // namespace sluice

#endif
