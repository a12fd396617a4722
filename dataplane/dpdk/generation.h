// The tables of one generation, as workers take them up: published by the engine, read by workers.
#ifndef SLUICE_DPDK_GENERATION_H
#define SLUICE_DPDK_GENERATION_H

#include <memory>

#include "dataplane/server/engine.h"
#include "dataplane/server/memory_tables.h"

namespace sluice {

/// One generation. Workers read it only between taking the pointer and reporting a quiescent state.
struct Generation {
  uint64_t serial = 0;  // counts up from 1: the next generation often gets the last one's address
  std::shared_ptr<const ForwardingTables> tables;  // keeps what the rest points into
  Tables view;  // the snapshot's and egress' fields; the worker's own fields are empty
};

/// The fields of `Tables` that belong to a generation, pointing into `tables`.
Generation make_generation(std::shared_ptr<const ForwardingTables> tables, uint64_t serial);

/// Copies a generation's fields, and leaves the worker's own.
inline void take_generation(const Generation &generation, Tables *tables) {
  const Tables &view = generation.view;
  tables->flow_hash_key = view.flow_hash_key;
  tables->vips = view.vips;
  tables->vip_mask = view.vip_mask;
  tables->port_ranges = view.port_ranges;
  tables->services = view.services;
  tables->slots = view.slots;
  tables->check_sources = view.check_sources;
  tables->pins = view.pins;
  tables->check_source_count = view.check_source_count;
  tables->backends = view.backends;
  tables->egress = view.egress;
  tables->backend_count = view.backend_count;
  tables->service_count = view.service_count;
}

}  // namespace sluice

#endif
