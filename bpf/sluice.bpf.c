// The XDP engine's packet path. The stages are those of dataplane/core/forward.h, composed per packet in two
// programs: the hit path, and behind a tail call everything that is rare. A tail call starts with a fresh
// stack, of which there are 512 bytes, and the verifier checks each program by itself.
//
//   sluice_xdp        parse -> find_service -> choose_established -> check_egress -> encapsulate
//   sluice_xdp_miss   choose_backend -> check_egress -> encapsulate, or the answer to a packet that is too
//   big sluice_xdp_sweep  not for packets: the loader runs it on each CPU to empty what has expired
#include "bpf/map_tables.h"
#include "dataplane/core/forward.h"
#include "dataplane/core/limits.h"

enum XdpProgramIndex { kXdpProgramMiss };

enum { kMostLinkHeader = kEthernetHeaderSize + kMaxVlanTags * kVlanTagSize };  // bytes

int sluice_xdp_miss(struct xdp_md *context);

// Of this object's own programs; filled when it is loaded.
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(uint32_t));
  __array(values, int(void *));
} programs SEC(".maps") = {.values = {[kXdpProgramMiss] = (void *)&sluice_xdp_miss}};

SLUICE_INLINE uint8_t *frame_start(const struct xdp_md *context) { return (uint8_t *)(long)context->data; }
SLUICE_INLINE uint8_t *frame_end(const struct xdp_md *context) { return (uint8_t *)(long)context->data_end; }

SLUICE_INLINE struct Frame frame_of(struct xdp_md *context) {
  struct Frame frame = {frame_start(context), frame_end(context), 0};
  frame.length = settings.several_buffers ? (uint32_t)bpf_xdp_get_buff_len(context)
                                          : (uint32_t)(frame.end - frame.start);
  return frame;
}

// Reads the clock when the jiffy is another than at the last packet's, and refills the budgets for the time
// that went by.
SLUICE_INLINE void keep_time(struct XdpWorker *worker) {
  if (settings.clock == kXdpClockFixed) return;
  uint64_t jiffies = bpf_jiffies64();
  if (SLUICE_LIKELY(jiffies == worker->jiffies)) return;
  worker->jiffies = jiffies;
  uint64_t now_ms = bpf_ktime_get_boot_ns() / 1000000;
  uint64_t elapsed_ms = now_ms - worker->boottime_ms;
  if (elapsed_ms == 0) return;
  // What is not used in a jiffy is not saved up; the longest is 10 ms.
  uint32_t refill_ms = elapsed_ms < 10 ? (uint32_t)elapsed_ms : 10;
  worker->boottime_ms = now_ms;
  worker->now_s = (uint32_t)(now_ms / 1000);
  worker->adoption_budgets[0] = refill_ms * kAdoptionLookupsPerMs;
  worker->adoption_budgets[1] = refill_ms * kAdoptionLookupsPerMs;
  worker->displacement_budget = refill_ms * kDisplacementStepsPerMs;
  uint64_t replies = worker->icmp_reply_budget + elapsed_ms * kIcmpRepliesPerMs;
  worker->icmp_reply_budget = replies < kIcmpReplyBurst ? (uint32_t)replies : kIcmpReplyBurst;
}

// Counts the verdict on a packet that goes nowhere or to the kernel.
SLUICE_INLINE int finish(struct XdpCounters *counted, enum Verdict verdict) {
  counted->worker.verdict_packets[verdict & (kVerdictCapacity - 1)] += 1;
  return verdict_class(verdict) == kVerdictClassPass ? XDP_PASS : XDP_DROP;
}

// Counts a forwarded packet of `received` bytes, now `transmitted`.
SLUICE_INLINE void count_forwarded(struct XdpCounters *counted, enum Verdict verdict,
                                   const struct Decision *decision, uint32_t received, uint32_t transmitted) {
  counted->worker.verdict_packets[verdict & (kVerdictCapacity - 1)] += 1;
  counted->worker.transmitted_packets += 1;
  counted->worker.transmitted_bytes += transmitted;
  counted->backends[decision->backend].packets += 1;
  counted->backends[decision->backend].bytes += received;
  counted->services[decision->service & (kXdpServices - 1)].packets += 1;
  counted->services[decision->service & (kXdpServices - 1)].bytes += received;
}

// Makes room in front of the packet, cuts link padding off behind it, and writes the headers.
SLUICE_INLINE enum Verdict encapsulate_frame(struct xdp_md *context, const struct Egress *to,
                                             const struct Packet *packet, uint32_t frame_length) {
  uint32_t padding = frame_length - packet->l3_offset - packet->l3_length;
  if (SLUICE_UNLIKELY(padding > 0) && bpf_xdp_adjust_tail(context, -(int)padding) != 0)
    return kVerdictDropInternal;
  int growth = (int)(kEthernetHeaderSize + to->outer_size) - packet->l3_offset;
  if (SLUICE_UNLIKELY(bpf_xdp_adjust_head(context, -growth) != 0)) return kVerdictDropNoHeadroom;
  uint8_t *start = frame_start(context);
  const uint8_t *end = frame_end(context);
  // The parser has seen an inner IPv4 header at least; the verifier has forgotten it.
  if (to->flags & kEgressOuterIpv6) {
    if (start + kEthernetHeaderSize + kIpv6HeaderSize + kIpv4HeaderSize > end) return kVerdictDropInternal;
    encapsulate_in_ipv6(start, to, packet);
  } else {
    if (start + kEthernetHeaderSize + kIpv4HeaderSize + kIpv4HeaderSize > end) return kVerdictDropInternal;
    encapsulate_in_ipv4(start, to, packet);
  }
  return kVerdictUndecided;
}

// The way out to a port: back by the interface that the packet came by, or over to another.
SLUICE_INLINE int leave_by(const struct xdp_md *context, uint32_t port) {
  if (settings.port_ifindex[port & (kXdpMaxPorts - 1)] == context->ingress_ifindex) return XDP_TX;
  return (int)bpf_redirect_map(&ports, port, XDP_DROP);
}

// Encapsulates and sends a packet that may go, and counts what became of it.
SLUICE_INLINE int forward_frame(struct xdp_md *context, struct XdpCounters *counted,
                                const struct Packet *packet, const struct Decision *decision,
                                enum Verdict verdict, uint32_t frame_length) {
  const struct Egress *to = decision->egress;
  if (!to) return finish(counted, kVerdictDropInternal);
  enum Verdict obstacle = encapsulate_frame(context, to, packet, frame_length);
  if (SLUICE_UNLIKELY(obstacle != kVerdictUndecided)) return finish(counted, obstacle);
  int action = leave_by(context, to->port);
  if (SLUICE_UNLIKELY(action == XDP_DROP)) return finish(counted, kVerdictDropInternal);
  count_forwarded(counted, verdict, decision, frame_length,
                  kEthernetHeaderSize + to->outer_size + packet->l3_length);
  return action;
}

// Leaves the packet to sluice_xdp_miss.
SLUICE_INLINE int hand_over(struct xdp_md *context, const struct Tables *tables, struct XdpCounters *counted,
                            const struct Packet *packet, const struct ServiceMatch *match, bool has_entry,
                            uint32_t frame_length) {
  struct XdpHandover *handover = &worker_of(tables)->handover;
  handover->packet = *packet;
  handover->match = *match;
  handover->frame_length = frame_length;
  handover->generation = tables->generation;
  handover->has_entry = has_entry;
  bpf_tail_call(context, &programs, kXdpProgramMiss);
  return finish(counted, kVerdictDropInternal);  // only if the program is not there
}

// A packet whose IP header and above have been parsed, with `verdict`.
SLUICE_INLINE int process(struct xdp_md *context, const struct Tables *tables, struct XdpCounters *counted,
                          struct Packet *packet, enum Verdict verdict, uint32_t frame_length) {
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(counted, verdict);
  struct ServiceMatch match = {0, 0};
  verdict = find_service(tables, packet, vip_index(tables, &packet->vip), &match);
  if (verdict != kVerdictUndecided) return finish(counted, verdict);
  hash_flow(tables, packet);

  const struct Service *service = tables_service(tables, match.service);
  struct Decision decision = {0, match.service, 0, 0, 0};
  uint64_t *entry = 0;
  if (SLUICE_LIKELY((packet->flags & kPacketIcmpError) == 0)) {
    struct ConnectionKey key;
    make_connection_key(tables, packet, match.vip_number, &key);
    entry = connection_find(tables, &key);
    verdict = choose_established(tables, entry, packet, service, worker_of(tables)->now_s, &decision);
  }
  if (SLUICE_UNLIKELY(verdict == kVerdictUndecided ||
                      check_egress(decision.egress, packet) != kVerdictUndecided)) {
    return hand_over(context, tables, counted, packet, &match, entry != 0, frame_length);
  }
  return forward_frame(context, counted, packet, &decision, verdict, frame_length);
}

SEC("xdp")
int sluice_xdp(struct xdp_md *context) {
  struct Tables tables = {bpf_get_smp_processor_id(), (uint32_t)SLUICE_LOAD_ACQUIRE(&state.current) & 1};
  struct XdpCounters *counted = counters_of(&tables);
  if (!counted || tables.worker >= kXdpMaxWorkers) return XDP_ABORTED;
  struct Frame frame = frame_of(context);
  counted->worker.received_packets += 1;
  counted->worker.received_bytes += frame.length;
  if (!state.generations[tables.generation].installed) return finish(counted, kVerdictPassNoSnapshot);
  keep_time(worker_of(&tables));

  // As parse() does it, but each family goes its whole way by itself: with the family known, the compiler
  // leaves out most of what a packet of the other would need.
  struct Packet packet;
  be16 ether_type = 0;
  enum Verdict verdict = parse_link(&frame, &packet, &ether_type);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(counted, verdict);
  const uint8_t *l3 = frame.start + packet.l3_offset;
  uint32_t l3_room = frame.length - packet.l3_offset;
  if (ether_type == host_to_be16(kEtherTypeIpv4)) {
    verdict = parse_ipv4(&packet, l3, frame.end, l3_room);
    return process(context, &tables, counted, &packet, verdict, frame.length);
  }
  if (ether_type == host_to_be16(kEtherTypeIpv6)) {
    verdict = parse_ipv6(&packet, l3, frame.end, l3_room);
    return process(context, &tables, counted, &packet, verdict, frame.length);
  }
  return finish(counted, kVerdictPassNotIp);
}

// Makes the frame an answer to itself (too_big.h), to go back by the interface that it came by.
SLUICE_INLINE int reply_too_big(struct xdp_md *context, struct XdpCounters *counted,
                                const struct Packet *packet, const struct Egress *to, uint32_t frame_length) {
  uint32_t l3_offset = packet->l3_offset;
  uint32_t growth = too_big_growth(packet);
  if (l3_offset > kMostLinkHeader || frame_start(context) + l3_offset + kQuotedSize > frame_end(context))
    return finish(counted, kVerdictDropTooBig);
  int shrink = (int)too_big_frame_size(packet) - (int)(frame_length + growth);
  if (bpf_xdp_adjust_head(context, -(int)growth) != 0) return finish(counted, kVerdictDropNoHeadroom);
  uint8_t *start = frame_start(context);
  const uint8_t *end = frame_end(context);
  uint8_t *l3 = start + l3_offset;
  if (start + kMostLinkHeader + kTooBigIpv6Growth > end) return finish(counted, kVerdictDropInternal);
  if (packet->family == kFamilyIpv4) {
    if (l3 + kTooBigIpv4Growth + kQuotedSize > end) return finish(counted, kVerdictDropInternal);
    write_too_big_ipv4(start, l3, to, packet);
  } else {
    if (l3 + kTooBigIpv6Growth + kQuotedSize > end) return finish(counted, kVerdictDropInternal);
    write_too_big_ipv6(start, l3, to, packet);
  }
  if (bpf_xdp_adjust_tail(context, shrink) != 0) return finish(counted, kVerdictDropInternal);
  counted->worker.verdict_packets[kVerdictReplyTooBig] += 1;
  counted->worker.transmitted_packets += 1;
  counted->worker.transmitted_bytes += too_big_frame_size(packet);
  return XDP_TX;
}

// Sends the packet that was handed over on its way. A function of its own, so that its stack is not under
// that of the walk for room.
SLUICE_NOINLINE int send_handed_over(struct xdp_md *context, const struct Tables *tables,
                                     const struct Decision *decision, enum Verdict verdict) {
  struct XdpCounters *counted = counters_of(tables);
  const struct XdpHandover *handover = &worker_of(tables)->handover;
  if (!counted) return XDP_ABORTED;
  if (!decision->egress) return finish(counted, verdict);
  enum Verdict obstacle = check_egress(decision->egress, &handover->packet);
  if (obstacle == kVerdictDropTooBig) obstacle = too_big_verdict(tables, &handover->packet);
  if (obstacle == kVerdictReplyTooBig)
    return reply_too_big(context, counted, &handover->packet, decision->egress, handover->frame_length);
  if (obstacle != kVerdictUndecided) return finish(counted, obstacle);
  return forward_frame(context, counted, &handover->packet, decision, verdict, handover->frame_length);
}

SLUICE_NOINLINE uint64_t *find_again(const struct Tables *tables, const struct ConnectionKey *key) {
  return connection_find(tables, key);
}

SEC("xdp")
int sluice_xdp_miss(struct xdp_md *context) {
  struct Tables tables = {bpf_get_smp_processor_id(), 0};
  if (tables.worker >= kXdpMaxWorkers) return XDP_ABORTED;
  struct XdpWorker *worker = worker_of(&tables);
  const struct XdpHandover *handover = &worker->handover;
  const struct Packet *packet = &handover->packet;
  struct ConnectionKey *key = &worker->key;
  tables.generation = handover->generation & 1;
  make_connection_key(&tables, packet, handover->match.vip_number, key);
  struct Decision decision = {0, handover->match.service, 0, 0, 0};
  const struct Service *service = tables_service(&tables, decision.service);
  uint64_t *entry = handover->has_entry ? find_again(&tables, key) : 0;
  enum Verdict verdict = choose_established(&tables, entry, packet, service, worker->now_s, &decision);
  if (verdict == kVerdictUndecided)
    verdict = choose_otherwise(&tables, packet, key, service, worker->now_s, entry, &decision);
  return send_handed_over(context, &tables, &decision, verdict);
}

// Empties what has expired in the next kXdpSweepBuckets buckets of each family of this CPU's table. Whoever
// runs it keeps softirqs off this CPU meanwhile: a table has one writer.
SEC("xdp")
int sluice_xdp_sweep(struct xdp_md *context) {
  (void)context;
  struct Tables tables = {bpf_get_smp_processor_id(), (uint32_t)SLUICE_LOAD_ACQUIRE(&state.current) & 1};
  if (tables.worker >= settings.worker_count || tables.worker >= kXdpMaxWorkers) return XDP_DROP;
  if (!state.generations[tables.generation].installed) return XDP_DROP;
  struct XdpWorker *worker = worker_of(&tables);
  keep_time(worker);
  uint32_t cursor = worker->sweep_cursor;
  for (uint32_t i = 0; i < kXdpSweepBuckets; i++, cursor++) {
    sweep_bucket(&tables, kFamilyIpv4, cursor & tables_bucket_mask(&tables, kFamilyIpv4), worker->now_s);
    sweep_bucket(&tables, kFamilyIpv6, cursor & tables_bucket_mask(&tables, kFamilyIpv6), worker->now_s);
  }
  worker->sweep_cursor = cursor;
  return XDP_DROP;
}

// The kernel gives some helpers only to programs under a licence that it knows as compatible with its own.
char sluice_license[] SEC("license") = "GPL";
