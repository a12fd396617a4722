// The forwarding decision's table of contents. A packet's way, stage by stage:
//
//   parse (parse.h)             bytes -> flow key, or a verdict on what is malformed
//   find_service (service.h)    VIP, protocol and port -> service, or "the kernel's"
//   choose_backend (below)      connection table (connection.h), else a health check's backend, else schedule
//                               (schedule.h)
//   check_egress                next hop known, hop limit left, MTU kept
//   encapsulate (encapsulate.h) after the engine has made room in front of the packet;
//                               write_too_big (too_big.h) instead, if it does not fit
//
// decide() composes the first four for one packet; the DPDK worker runs the same stages over a burst,
// with a prefetch between them (dataplane/dpdk/pipeline.h).
#ifndef SLUICE_CORE_FORWARD_H
#define SLUICE_CORE_FORWARD_H

#include "dataplane/core/connection.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/schedule.h"
#include "dataplane/core/service.h"
#include "dataplane/core/tables.h"
#include "dataplane/core/too_big.h"

SLUICE_NAMESPACE_BEGIN

// What was decided. `verdict` is a forward verdict with a backend, or final as it is.
struct Decision {
  const struct Egress *egress;  // of the backend; null unless a backend was chosen
  uint32_t service;             // identifier; meaningless unless a backend was chosen
  uint16_t backend;             // identifier; 0: none was chosen
  uint8_t verdict;              // enum Verdict
  uint8_t reserved;
};

SLUICE_INLINE void hash_flow(const struct Tables *tables, struct Packet *packet) {
  packet->hash =
      flow_hash(tables_flow_hash_key(tables), &packet->client, &packet->vip, packet->ports, packet->protocol);
}

// Looks for the flow in the other workers' tables, within the rate limit. 0 if it is not there; `asked`
// says whether there was a look.
SLUICE_INLINE uint64_t look_in_peers(const struct Tables *tables, const struct ConnectionKey *key,
                                     enum AdoptionLimit limit, bool *asked) {
  *asked = tables_take_adoption_lookup(tables, limit);
  if (!*asked) return 0;
  tables_count_event(tables, kEventAdoptionLookup);
  return connection_find_in_peers(tables, key);
}

// The limit for a packet that misses: what is within a TCP connection has its own.
SLUICE_INLINE enum AdoptionLimit adoption_limit_of(const struct Packet *packet) {
  bool within = packet->protocol == kProtocolTcp && !opens_connection(packet);
  return within ? kAdoptionOfTcp : kAdoptionOfOthers;
}

// An ICMP error follows its connection, and changes nothing of it.
SLUICE_SUBPROGRAM enum Verdict choose_backend_of_quoted(const struct Tables *tables,
                                                        const struct ConnectionKey *key,
                                                        const struct Service *service, uint64_t hash,
                                                        uint16_t *backend) {
  if (!tables || !key || !service || !backend) return kVerdictDropInternal;
  uint64_t *entry = connection_find(tables, key);
  uint64_t state = entry ? *entry : 0;
  bool asked = false;
  if (state == 0 && tables_peer_count(tables) > 0) {
    state = look_in_peers(tables, key, kAdoptionOfOthers, &asked);
  }
  const struct Egress *egress = tables_egress(tables, backend_of(state));
  bool known = state != 0 && egress && (egress->flags & kEgressKnown) != 0;
  *backend = known ? backend_of(state) : backend_of_hash(tables, service, hash);
  return *backend != 0 ? kVerdictForwardIcmpError : kVerdictDropNoBackend;
}

// Whether the packet is of a health check through the data path, or an ICMP error about one:
// kVerdictForwardCheck with the backend that it is pinned to. Such a flow is never entered, not even where
// nobody has the port any more (a late packet of a check that is over): the entry would stand in the way of
// the port's next backend. kVerdictUndecided: it is no check's.
SLUICE_RARE enum Verdict choose_backend_of_check(const struct Tables *tables, const struct Packet *packet,
                                                 uint32_t source_count, uint16_t *backend) {
  uint32_t port = (uint32_t)client_port_of(packet->ports) - (uint32_t)kFirstCheckPort;
  if (port >= (uint32_t)kCheckPorts) return kVerdictUndecided;
  for (uint32_t i = 0; i < kMaxCheckSources; i++) {
    if (i >= source_count) break;
    const struct CheckSource *source = tables_check_source(tables, i);
    if (!address_equal(&source->address, &packet->client)) continue;
    uint32_t pin = port / kCheckPortsPerPin;
    if (pin < source->pin_count) *backend = tables_pin(tables, source->first_pin + pin);
    return *backend != 0 ? kVerdictForwardCheck : kVerdictDropCheck;
  }
  return kVerdictUndecided;
}

// What choose_backend_anew needs to know of a miss, in one argument: BPF functions take five.
struct Miss {
  const struct Packet *packet;
  const struct Service *service;
  uint64_t *entry;  // the flow's entry that no longer holds, or null
  uint32_t now_s;
};

enum PeerAnswer { kPeerNothing, kPeerFound, kPeerNotAsked };

// Asks the other workers for the flow. kPeerFound: `state` is the flow's state word there, with this
// packet noted in it. A SYN asks only where the hash alone does not find its backend again: one that is
// sent again may come to another worker, if the network or the sender's host spreads it anew.
SLUICE_INLINE enum PeerAnswer ask_peers(const struct Tables *tables, const struct ConnectionKey *key,
                                        const struct Miss *miss, uint64_t *state) {
  if (tables_peer_count(tables) == 0) return kPeerNothing;
  bool opens = opens_connection(miss->packet);
  if (opens && miss->service->scheduler != kSchedulerLeastConnection) return kPeerNothing;
  bool asked = false;
  uint64_t found = look_in_peers(tables, key, adoption_limit_of(miss->packet), &asked);
  if (!asked) return opens ? kPeerNothing : kPeerNotAsked;
  if (found == 0) return kPeerNothing;
  const struct Egress *egress = tables_egress(tables, backend_of(found));
  if (!connection_holds(egress, found, miss->packet, miss->service, miss->now_s)) return kPeerNothing;
  // Nobody sweeps the table of a worker that is no more.
  if (timed_out(found, miss->service, miss->now_s)) return kPeerNothing;
  uint32_t next = next_state(state_of(found), miss->packet->tcp_flags);
  *state = make_state(found, next, miss->now_s, backend_of(found));
  if (*state != found)
    tables_count_backend(tables, backend_of(found), backend_event(found, next, miss->packet->tcp_flags));
  return kPeerFound;
}

// A backend for a flow that no worker knows. One that opens (TCP by its SYN; any datagram) goes where the
// scheduler says, if it can be entered. Everything else goes where its hash says, so that all packets of
// a flow without an entry go the same way.
SLUICE_INLINE enum Verdict schedule_anew(const struct Tables *tables, const struct ConnectionKey *key,
                                         const struct Miss *miss, enum PeerAnswer peers, uint16_t *backend) {
  const struct Packet *packet = miss->packet;
  bool tcp = packet->protocol == kProtocolTcp;
  // A connection that another worker may know is not entered as something else before it was asked, nor is a
  // flow of datagrams that has been here before.
  bool unasked = peers == kPeerNotAsked && (tcp || miss->entry);
  if (unasked && tcp && miss->service->scheduler == kSchedulerLeastConnection)
    return kVerdictDropAdoptionLimit;
  uint16_t of_hash = backend_of_hash(tables, miss->service, packet->hash);
  *backend = of_hash;
  if (of_hash == 0) return kVerdictDropNoBackend;
  bool ends = (packet->tcp_flags & (kTcpFin | kTcpRst)) != 0;  // and needs no entry
  if (unasked || (!miss->entry && ends)) return kVerdictForwardUntracked;

  if (!tcp || opens_connection(packet)) *backend = schedule(tables, miss->service, packet->hash, of_hash);
  uint64_t state = make_state(key->word[(key->width - 1) & 3], kConnectionEmbryonic, miss->now_s, *backend);
  if (miss->entry) {
    connection_replace(tables, miss->entry, state);
  } else if (!connection_insert(tables, key, state, miss->now_s)) {
    *backend = of_hash;
    return kVerdictForwardUntracked;
  }
  if (opens_connection(packet)) tables_count_backend(tables, *backend, kBackendOpened);
  return kVerdictForwardNew;
}

// The backend for a flow that this worker's table does not have, or has with an entry that no longer
// holds: the one that another worker knows, else a scheduled one, entered as a new connection. An entry of
// datagrams that has timed out says only that they came to another worker since, or to none.
SLUICE_RARE enum Verdict choose_backend_anew(const struct Tables *tables, const struct ConnectionKey *key,
                                             const struct Miss *miss, uint16_t *backend) {
  enum PeerAnswer peers = kPeerNothing;
  uint64_t state = 0;
  if (!miss->entry || miss->packet->protocol == kProtocolUdp) peers = ask_peers(tables, key, miss, &state);
  if (peers != kPeerFound) return schedule_anew(tables, key, miss, peers, backend);
  *backend = backend_of(state);
  if (miss->entry) {
    connection_replace(tables, miss->entry, state);
  } else if (!connection_insert(tables, key, state, miss->now_s)) {
    return kVerdictForwardUntracked;
  }
  tables_return_adoption_lookup(tables, adoption_limit_of(miss->packet));
  return kVerdictForwardAdopted;
}

// Stage 3: the backend that the flow's entry names; `entry` may be null. Answers kVerdictForwardEstablished
// with decision->backend and decision->egress filled, or kVerdictUndecided if the entry does not hold.
SLUICE_INLINE enum Verdict choose_established(const struct Tables *tables, uint64_t *entry,
                                              const struct Packet *packet, const struct Service *service,
                                              uint32_t now_s, struct Decision *decision) {
  if (SLUICE_UNLIKELY(entry == 0)) return kVerdictUndecided;
  const struct Egress *egress = tables_egress(tables, backend_of(*entry));
  if (SLUICE_UNLIKELY(!connection_holds(egress, *entry, packet, service, now_s))) return kVerdictUndecided;
  decision->egress = egress;
  decision->backend = backend_of(*entry);
  connection_touch(tables, entry, packet, now_s);
  return kVerdictForwardEstablished;
}

// Stage 3 and 4 for what is no established connection of this worker: a health check, an ICMP error, or a
// flow whose entry is missing or, in `entry`, does not hold. Fills decision->backend and decision->egress
// unless the verdict is a drop.
SLUICE_INLINE enum Verdict choose_otherwise(const struct Tables *tables, const struct Packet *packet,
                                            const struct ConnectionKey *key, const struct Service *service,
                                            uint32_t now_s, uint64_t *entry, struct Decision *decision) {
  enum Verdict verdict = kVerdictUndecided;
  uint16_t backend = 0;
  uint32_t check_sources = tables_check_source_count(tables);
  if (SLUICE_UNLIKELY(check_sources != 0))
    verdict = choose_backend_of_check(tables, packet, check_sources, &backend);
  if (verdict != kVerdictUndecided) {
    // From before this host's address became a source of checks.
    if (entry) connection_forget(tables, entry);
  } else if (packet->flags & kPacketIcmpError) {
    verdict = choose_backend_of_quoted(tables, key, service, packet->hash, &backend);
  } else {
    struct Miss miss = {packet, service, entry, now_s};
    verdict = choose_backend_anew(tables, key, &miss, &backend);
  }
  if (backend == 0) return verdict;
  decision->backend = backend;
  decision->egress = tables_egress(tables, backend);
  return decision->egress ? verdict : kVerdictDropInternal;
}

// Stage 3 and 4: the backend of the packet's connection, or of a new one.
SLUICE_INLINE enum Verdict choose_backend(const struct Tables *tables, const struct Packet *packet,
                                          const struct ConnectionKey *key, uint32_t now_s,
                                          struct Decision *decision) {
  const struct Service *service = tables_service(tables, decision->service);
  if (!service) return kVerdictDropInternal;
  uint64_t *entry = 0;
  if (SLUICE_LIKELY((packet->flags & kPacketIcmpError) == 0)) {
    entry = connection_find(tables, key);
    enum Verdict verdict = choose_established(tables, entry, packet, service, now_s, decision);
    if (SLUICE_LIKELY(verdict != kVerdictUndecided)) return verdict;
  }
  return choose_otherwise(tables, packet, key, service, now_s, entry, decision);
}

// The whole decision for one packet at `now_s` (CLOCK_BOOTTIME seconds). Reads the frame, changes
// nothing but the connection table. On a forward verdict the engine makes room and encapsulates, on a reply
// verdict it writes the answer.
SLUICE_INLINE void decide(const struct Tables *tables, const struct Frame *frame, uint32_t now_s,
                          struct Packet *packet, struct Decision *decision) {
  decision->egress = 0;
  decision->service = 0;
  decision->backend = 0;
  decision->reserved = 0;
  enum Verdict verdict = parse(frame, packet);
  struct ServiceMatch match = {0, 0};
  if (verdict == kVerdictUndecided)
    verdict = find_service(tables, packet, vip_index(tables, &packet->vip), &match);
  if (verdict == kVerdictUndecided) {
    hash_flow(tables, packet);
    struct ConnectionKey key;
    make_connection_key(tables, packet, match.vip_number, &key);
    decision->service = match.service;
    verdict = choose_backend(tables, packet, &key, now_s, decision);
  }
  if (decision->egress) {
    enum Verdict obstacle = check_egress(decision->egress, packet);
    if (obstacle == kVerdictDropTooBig) obstacle = too_big_verdict(tables, packet);
    if (obstacle != kVerdictUndecided) verdict = obstacle;
  }
  decision->verdict = (uint8_t)verdict;
}

SLUICE_NAMESPACE_END

#endif
