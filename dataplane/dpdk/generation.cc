#include "dataplane/dpdk/generation.h"

#include <utility>

#include "dataplane/server/snapshot_store.h"

namespace sluice {

Generation make_generation(std::shared_ptr<const ForwardingTables> tables, uint64_t serial) {
  Generation generation;
  generation.serial = serial;
  const MappedSnapshot &snapshot = *tables->snapshot;
  Tables &view = generation.view;
  view.flow_hash_key = &snapshot.header().flow_hash_key;
  view.vips = snapshot.vips().data();
  view.vip_mask = snapshot.header().vip_mask;
  view.port_ranges = snapshot.port_ranges().data();
  view.services = snapshot.services().data();
  view.slots = snapshot.slots().data();
  view.check_sources = snapshot.check_sources().data();
  view.pins = snapshot.pins().data();
  view.check_source_count = static_cast<uint32_t>(snapshot.check_sources().size());
  view.backends = snapshot.backends().data();
  view.egress = tables->egress.data();
  view.backend_count = static_cast<uint32_t>(snapshot.backends().size());
  view.service_count = static_cast<uint32_t>(snapshot.services().size());
  generation.tables = std::move(tables);
  return generation;
}

}  // namespace sluice
