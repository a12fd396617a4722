#include "dataplane/server/dry_run.h"

#include <algorithm>

#include "dataplane/server/dry_run_tables.h"

namespace sluice {
namespace {

Frame frame_of(const DryRunFrame &frame) {
  static constexpr uint8_t kNothing = 0;  // pointers are reckoned from it, and nothing is read
  const uint8_t *bytes = frame.bytes.empty() ? &kNothing : frame.bytes.data();
  return {bytes, bytes + frame.bytes.size(), frame.length};
}

/// Stages 1 and 2 up to the connection's key. False: the packet's way ends there.
bool find_flow(const DryRunTables &tables, const Frame &frame, DryRun *run, ConnectionKey *key) {
  run->parsed = parse(&frame, &run->packet);
  if (run->parsed != kVerdictUndecided) return false;
  run->vip = find_vip(&tables, &run->packet.vip, vip_index(&tables, &run->packet.vip));
  if (!run->vip) {
    run->service_found = kVerdictPassNotVip;
    return false;
  }
  ServiceMatch match = {0, 0};
  run->service_found = find_service_of_vip(&tables, run->vip, &run->packet, &match);
  if (run->service_found != kVerdictUndecided) return false;
  const bool tcp = run->packet.protocol == kProtocolTcp;
  run->range = find_port_range(&tables, tcp ? run->vip->tcp_first : run->vip->udp_first,
                               tcp ? run->vip->udp_first : run->vip->udp_end, vip_port_of(run->packet.ports));
  run->service = tables_service(&tables, match.service);
  hash_flow(&tables, &run->packet);
  make_connection_key(&tables, &run->packet, match.vip_number, key);
  return true;
}

EntryFound entry_of(const DryRunTables &tables, const DryRun &run, uint32_t table, uint64_t word) {
  const Service &service = *run.service;
  const Egress *egress = tables_egress(&tables, backend_of(word));
  const bool known = egress && (egress->flags & kEgressKnown) != 0;
  EntryFound entry;
  entry.table = table;
  entry.state = state_of(word);
  entry.age_s = age_of(word, tables.live->now_s);
  entry.timeout_s = timeout_of(word, service.embryonic_timeout_s, service.established_timeout_s,
                               service.closing_timeout_s, service.udp_timeout_s);
  entry.backend = backend_of(word);
  // An ICMP error follows its connection as long as the backend is known (choose_backend_of_quoted).
  const bool is_icmp_error = (run.packet.flags & kPacketIcmpError) != 0;
  entry.holds =
      is_icmp_error ? known : connection_holds(egress, word, &run.packet, &service, tables.live->now_s);
  // What another worker has counts for a packet only while it has not timed out (ask_peers).
  if (!is_icmp_error && table != tables.worker && entry.age_s > entry.timeout_s) entry.holds = false;
  return entry;
}

uint64_t peers_word(const DryRunTables &tables, const ConnectionKey &key, uint32_t peer) {
  const uint32_t other = other_bucket(key.bucket, key.tag, tables_bucket_mask(&tables, key.family));
  const uint64_t word = peer_bucket_read(tables_peer_bucket(&tables, peer, key.family, key.bucket), &key);
  return word != 0 ? word : peer_bucket_read(tables_peer_bucket(&tables, peer, key.family, other), &key);
}

void find_entries(const DryRunTables &tables, const ConnectionKey &key, DryRun *run) {
  if (const uint64_t *own = connection_find(&tables, &key))
    run->entries.push_back(entry_of(tables, *run, tables.worker, *own));
  for (uint32_t peer = 0; peer < tables_peer_count(&tables); peer++) {
    const uint64_t word = peers_word(tables, key, peer);
    if (word != 0) run->entries.push_back(entry_of(tables, *run, table_of_peer(&tables, peer), word));
  }
}

void find_slots(const DryRunTables &tables, DryRun *run) {
  const Service &service = *run->service;
  if (service.slot_count == 0) return;
  const bool compares = service.scheduler == kSchedulerLeastConnection;
  std::vector<uint32_t> numbers = {slot_of_hash(&service, run->packet.hash)};
  // The other one of the two that schedule() compares.
  if (compares) numbers.push_back(hash_to_range(static_cast<uint32_t>(run->packet.hash), service.slot_count));
  for (const uint32_t number : numbers) {
    const uint16_t backend = tables_slot(&tables, service.first_slot + number);
    run->slots.push_back({number, backend, compares ? tables_active_connections(&tables, backend) : 0});
  }
}

uint64_t own_word(const DryRunTables &tables, const ConnectionKey &key) {
  const uint64_t *entry = connection_find(&tables, &key);
  return entry ? *entry : 0;
}

bool is_held(const DryRun &run) {
  return !run.entries.empty() && run.entries[0].table == run.worker && run.entries[0].holds;
}

/// Whose table has the flow, of those that have a worker; the first worker when none has.
uint32_t worker_of_flow(const LiveTables &live, const DryRunTables &tables, const Frame &frame) {
  DryRun looked;
  ConnectionKey key;
  if (!find_flow(tables, frame, &looked, &key)) return tables.worker;
  find_entries(tables, key, &looked);
  const auto better = [&live](const EntryFound &a, const EntryFound &b) {
    const auto rank = [&live](const EntryFound &entry) {
      return entry.table >= live.workers ? 2 : entry.holds ? 0 : 1;
    };
    return rank(a) != rank(b) ? rank(a) < rank(b) : a.age_s < b.age_s;
  };
  const auto best = std::ranges::min_element(looked.entries, better);
  return best != looked.entries.end() && best->table < live.workers ? best->table : tables.worker;
}

}  // namespace

DryRun dry_run(const LiveTables &live, const DryRunFrame &wanted) {
  const Frame frame = frame_of(wanted);
  DryRunScratch scratch;
  scratch.budgets = live.budgets;
  DryRunTables tables = {&live, live.forwarding->snapshot.get(), wanted.worker.value_or(0), &scratch};
  if (!wanted.worker) tables.worker = worker_of_flow(live, tables, frame);

  DryRun run;
  run.worker = tables.worker;
  ConnectionKey key;
  const bool has_flow = find_flow(tables, frame, &run, &key);
  if (has_flow) {
    const uint32_t sources = tables_check_source_count(&tables);
    if (sources != 0) run.check = choose_backend_of_check(&tables, &run.packet, sources, &run.check_backend);
    find_entries(tables, key, &run);
    find_slots(tables, &run);
  }
  const uint64_t before = has_flow ? own_word(tables, key) : 0;
  // All of it once more, as a worker does it: what was found until here is only said.
  Packet packet;
  Decision decision;
  decide(&tables, &frame, live.now_s, &packet, &decision);
  run.verdict = static_cast<Verdict>(decision.verdict);
  run.backend = decision.backend;
  run.egress = decision.egress;
  run.has_asked_peers = scratch.has_asked_peers;
  if (decision.egress) run.fits = check_egress(decision.egress, &packet);
  const uint64_t after = has_flow ? own_word(tables, key) : 0;
  run.enters = after != 0 && after != before && !is_held(run);
  return run;
}

}  // namespace sluice
