// The XDP engine's packet path. The stages are those of dataplane/core/forward.h, composed per packet in two
// programs: the hit path, and behind a tail call everything that is rare. A tail call starts with a fresh
// stack, of which there are 512 bytes, and the verifier checks each program by itself.
//
//   sluice_xdp           TCP and UDP right behind an IP header without options, and no VLAN tags:
//                        parse -> find_service -> choose_established -> check_egress -> encapsulate
//   sluice_xdp_uncommon  any other IP packet: parse -> find_service, and to sluice_xdp_miss
//   sluice_xdp_miss      choose_backend -> check_egress -> encapsulate, or the answer to what is too big
//   sluice_xdp_sweep     not for packets: the loader runs it on each CPU to empty what has expired
#include "bpf/map_tables.h"
#include "dataplane/core/forward.h"
#include "dataplane/core/limits.h"

enum XdpProgramIndex { kXdpProgramMiss, kXdpProgramUncommon, kXdpPrograms };

enum { kMostLinkHeader = kEthernetHeaderSize + kMaxVlanTags * kVlanTagSize };  // bytes

int sluice_xdp_miss(struct xdp_md *context);
int sluice_xdp_uncommon(struct xdp_md *context);

// Of this object's own programs; filled when it is loaded.
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, kXdpPrograms);
  __uint(key_size, sizeof(uint32_t));
  __array(values, int(void *));
} programs SEC(".maps") = {
    .values = {
        [kXdpProgramMiss] = (void *)&sluice_xdp_miss, [kXdpProgramUncommon] = (void *)&sluice_xdp_uncommon}};

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
  uint64_t jiffies = bpf_jiffies64();
  if (SLUICE_LIKELY(jiffies == worker->jiffies)) return;
  worker->jiffies = jiffies;
  if (settings.clock == kXdpClockFixed) return;
  uint64_t now_ms = bpf_ktime_get_boot_ns() / 1000000;
  uint64_t elapsed_ms = now_ms - worker->boottime_ms;
  if (elapsed_ms == 0) return;
  // What is not used in a jiffy is not saved up; the longest is 10 ms.
  uint32_t refill_ms = elapsed_ms < 10 ? (uint32_t)elapsed_ms : 10;
  worker->boottime_ms = now_ms;
  worker->now_s = (uint32_t)(now_ms / 1000);
  worker->adoption_budgets[0] = refill_ms * kAdoptionTablesPerMs;
  worker->adoption_budgets[1] = refill_ms * kAdoptionTablesPerMs;
  worker->displacement_budget = refill_ms * kDisplacementStepsPerMs;
  uint64_t replies = worker->icmp_reply_budget + elapsed_ms * kIcmpRepliesPerMs;
  worker->icmp_reply_budget = replies < kIcmpReplyBurst ? (uint32_t)replies : kIcmpReplyBurst;
}

// Counts the verdict on a packet that goes nowhere or to the kernel. Without a snapshot all of them end here,
// since there is no VIP, and all are the kernel's.
SLUICE_INLINE int finish(const struct Tables *tables, struct XdpCounters *counted, enum Verdict verdict) {
  if (SLUICE_UNLIKELY(!generation_of(tables)->installed)) verdict = kVerdictPassNoSnapshot;
  counted->worker.verdict_packets[verdict & (kVerdictCapacity - 1)] += 1;
  return verdict_class(verdict) == kVerdictClassPass ? XDP_PASS : XDP_DROP;
}

// Counts a forwarded packet of `received` bytes, now `transmitted`.
SLUICE_INLINE void count_forwarded(struct XdpCounters *counted, enum Verdict verdict,
                                   const struct Decision *decision, uint64_t received, uint64_t transmitted) {
  counted->worker.verdict_packets[verdict & (kVerdictCapacity - 1)] += 1;
  counted->worker.transmitted_packets += 1;
  counted->worker.transmitted_bytes += transmitted;
  struct BackendCounters *backend = &counted->backends[decision->backend];
  backend->packets += 1;
  backend->bytes += received;
  struct TrafficCounters *service = &counted->services[decision->service & (kXdpServices - 1)];
  KEEP_ADDRESS(service);
  service->packets += 1;
  service->bytes += received;
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
SLUICE_INLINE int forward_frame(struct xdp_md *context, const struct Tables *tables,
                                struct XdpCounters *counted, const struct Packet *packet,
                                const struct Decision *decision, enum Verdict verdict,
                                uint32_t frame_length) {
  const struct Egress *to = decision->egress;
  if (!to) return finish(tables, counted, kVerdictDropInternal);
  enum Verdict obstacle = encapsulate_frame(context, to, packet, frame_length);
  if (SLUICE_UNLIKELY(obstacle != kVerdictUndecided)) return finish(tables, counted, obstacle);
  int action = leave_by(context, to->port);
  if (SLUICE_UNLIKELY(action == XDP_DROP)) return finish(tables, counted, kVerdictDropInternal);
  count_forwarded(counted, verdict, decision, frame_length,
                  kEthernetHeaderSize + to->outer_size + packet->l3_length);
  return action;
}

// Leaves the packet to sluice_xdp_miss, by way of the worker's handover, whose packet and key are filled.
SLUICE_INLINE int hand_over(struct xdp_md *context, const struct Tables *tables, struct XdpCounters *counted,
                            uint32_t service, bool has_entry, uint32_t frame_length) {
  struct XdpHandover *handover = &worker_of(tables)->handover;
  handover->service = service;
  handover->frame_length = frame_length;
  handover->generation = tables->generation;
  handover->has_entry = has_entry;
  bpf_tail_call(context, &programs, kXdpProgramMiss);
  return finish(tables, counted, kVerdictDropInternal);  // only if the program is not there
}

// What every program begins with.
SLUICE_INLINE struct XdpCounters *begin(struct Tables *tables, uint32_t generation) {
  tables->worker = bpf_get_smp_processor_id();
  tables->generation = generation & 1;
  return tables->worker < kXdpMaxWorkers ? counters_of(tables) : 0;
}

SLUICE_INLINE uint32_t current_generation(void) { return (uint32_t)SLUICE_LOAD_ACQUIRE(&state.current); }

// Out of the way of what is found at once.
SLUICE_NOINLINE uint64_t *find_elsewhere(const struct Tables *tables, const struct ConnectionKey *key) {
  return connection_find(tables, key);
}

// Where a packet's transport header is.
struct Transport {
  const uint8_t *header;
  const uint8_t *end;  // of what is readable
  uint32_t length;     // bytes that the IP packet has from there on
};

// Stages 2 to 5 for a packet of `protocol`, TCP or UDP, whose IP header has been read.
SLUICE_INLINE int process(struct xdp_md *context, const struct Tables *tables, struct XdpCounters *counted,
                          struct Packet *packet, uint8_t protocol, const struct Transport *at,
                          uint32_t frame_length) {
  const struct Vip *vip = find_vip(tables, &packet->vip, vip_index(tables, &packet->vip));
  if (!vip) return finish(tables, counted, kVerdictPassNotVip);
  packet->protocol = protocol;  // as it is: the compiler learns it here
  packet->l4_verdict = (uint8_t)parse_ports(packet, at->header, at->end, at->length);
  struct ServiceMatch match = {0, 0};
  enum Verdict verdict = find_service_of_vip(tables, vip, packet, &match);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(tables, counted, verdict);
  hash_flow(tables, packet);

  const struct Service *service = tables_service(tables, match.service);
  struct Decision decision = {0, match.service, 0, 0, 0};
  struct ConnectionKey key;
  make_connection_key(tables, packet, match.vip_number, &key);
  uint64_t *entry = connection_find_likely(tables, &key);
  // What opens a connection has hardly an entry: the program that makes it one looks.
  bool looked = SLUICE_LIKELY(entry != 0) || !opens_connection(packet);
  if (SLUICE_UNLIKELY(!entry) && looked) {
    worker_of(tables)->handover.key = key;
    entry = find_elsewhere(tables, &worker_of(tables)->handover.key);
  }
  verdict = choose_established(tables, entry, packet, service, worker_of(tables)->now_s, &decision);
  if (SLUICE_UNLIKELY(verdict == kVerdictUndecided ||
                      check_egress(decision.egress, packet) != kVerdictUndecided)) {
    struct XdpHandover *handover = &worker_of(tables)->handover;
    handover->packet = *packet;
    handover->key = key;
    return hand_over(context, tables, counted, match.service, entry != 0 || !looked, frame_length);
  }
  return forward_frame(context, tables, counted, packet, &decision, verdict, frame_length);
}

// Leaves the packet to sluice_xdp_uncommon.
SLUICE_INLINE int leave_to_uncommon(struct xdp_md *context, const struct Tables *tables,
                                    struct XdpCounters *counted) {
  worker_of(tables)->handover.generation = tables->generation;
  bpf_tail_call(context, &programs, kXdpProgramUncommon);
  return finish(tables, counted, kVerdictDropInternal);  // only if the program is not there
}

// Parses as parse() does, but TCP and UDP right behind the IP header, which is right behind an Ethernet
// header without tags, go their whole way by themselves, each family and protocol apart: with all that known,
// the compiler leaves out most of what other packets would need.
SEC("xdp")
int sluice_xdp(struct xdp_md *context) {
  struct Tables this_packets;
  const struct Tables *tables = &this_packets;
  struct XdpCounters *counted = begin(&this_packets, current_generation());
  if (!counted) return XDP_PASS;  // a CPU that there was not when the program was loaded
  struct Frame frame = frame_of(context);
  counted->worker.received_packets += 1;
  counted->worker.received_bytes += frame.length;
  keep_time(worker_of(tables));

  struct Packet packet;
  be16 ether_type = 0;
  enum Verdict verdict = parse_link(&frame, &packet, &ether_type);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(tables, counted, verdict);
  if (SLUICE_UNLIKELY(packet.l3_offset != kEthernetHeaderSize))
    return leave_to_uncommon(context, tables, counted);
  const uint8_t *l3 = frame.start + kEthernetHeaderSize;
  uint32_t l3_room = frame.length - kEthernetHeaderSize;
  if (ether_type == host_to_be16(kEtherTypeIpv4)) {
    uint32_t header_size = 0;
    verdict = parse_ipv4_header(&packet, l3, frame.end, l3_room, &header_size);
    if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(tables, counted, verdict);
    const struct Transport at = {l3 + kIpv4HeaderSize, frame.end, packet.l3_length - kIpv4HeaderSize};
    if (SLUICE_UNLIKELY(header_size != kIpv4HeaderSize || is_later_fragment(l3)))
      return leave_to_uncommon(context, tables, counted);
    if (SLUICE_LIKELY(packet.protocol == kProtocolTcp))
      return process(context, tables, counted, &packet, kProtocolTcp, &at, frame.length);
    if (packet.protocol == kProtocolUdp)
      return process(context, tables, counted, &packet, kProtocolUdp, &at, frame.length);
  } else if (ether_type == host_to_be16(kEtherTypeIpv6)) {
    verdict = parse_ipv6_header(&packet, l3, frame.end, l3_room);
    if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return finish(tables, counted, verdict);
    const struct Transport at = {l3 + kIpv6HeaderSize, frame.end, packet.l3_length - kIpv6HeaderSize};
    if (SLUICE_LIKELY(packet.protocol == kProtocolTcp))
      return process(context, tables, counted, &packet, kProtocolTcp, &at, frame.length);
    if (packet.protocol == kProtocolUdp)
      return process(context, tables, counted, &packet, kProtocolUdp, &at, frame.length);
  } else {
    return finish(tables, counted, kVerdictPassNotIp);
  }
  return leave_to_uncommon(context, tables, counted);
}

// Any other IP packet: VLAN tags, options, ICMP errors, fragments, extension headers.
SEC("xdp")
int sluice_xdp_uncommon(struct xdp_md *context) {
  struct Tables this_packets;
  const struct Tables *tables = &this_packets;
  struct XdpCounters *counted = begin(&this_packets, 0);
  if (!counted) return XDP_ABORTED;
  this_packets.generation = worker_of(tables)->handover.generation & 1;
  struct Frame frame = frame_of(context);
  struct Packet *packet = &worker_of(tables)->handover.packet;
  enum Verdict verdict = parse(&frame, packet);
  struct ServiceMatch match = {0, 0};
  if (verdict == kVerdictUndecided)
    verdict = find_service(tables, packet, vip_index(tables, &packet->vip), &match);
  if (verdict != kVerdictUndecided) return finish(tables, counted, verdict);
  hash_flow(tables, packet);
  make_connection_key(tables, packet, match.vip_number, &worker_of(tables)->handover.key);
  bool look_again = (packet->flags & kPacketIcmpError) == 0;  // nobody has looked for its entry yet
  return hand_over(context, tables, counted, match.service, look_again, frame.length);
}

// Makes the frame an answer to itself (too_big.h), to go back by the interface that it came by.
SLUICE_INLINE int reply_too_big(struct xdp_md *context, const struct Tables *tables,
                                struct XdpCounters *counted, const struct Packet *packet,
                                const struct Egress *to, uint32_t frame_length) {
  uint32_t l3_offset = packet->l3_offset;
  uint32_t growth = too_big_growth(packet);
  if (l3_offset > kMostLinkHeader || frame_start(context) + l3_offset + kQuotedSize > frame_end(context))
    return finish(tables, counted, kVerdictDropTooBig);
  int shrink = (int)too_big_frame_size(packet) - (int)(frame_length + growth);
  if (bpf_xdp_adjust_head(context, -(int)growth) != 0) return finish(tables, counted, kVerdictDropNoHeadroom);
  uint8_t *start = frame_start(context);
  const uint8_t *end = frame_end(context);
  uint8_t *l3 = start + l3_offset;
  if (start + kMostLinkHeader + kTooBigIpv6Growth > end) return finish(tables, counted, kVerdictDropInternal);
  if (packet->family == kFamilyIpv4) {
    if (l3 + kTooBigIpv4Growth + kQuotedSize > end) return finish(tables, counted, kVerdictDropInternal);
    write_too_big_ipv4(start, l3, to, packet);
  } else {
    if (l3 + kTooBigIpv6Growth + kQuotedSize > end) return finish(tables, counted, kVerdictDropInternal);
    write_too_big_ipv6(start, l3, to, packet);
  }
  if (bpf_xdp_adjust_tail(context, shrink) != 0) return finish(tables, counted, kVerdictDropInternal);
  counted->worker.verdict_packets[kVerdictReplyTooBig] += 1;
  counted->worker.transmitted_packets += 1;
  counted->worker.transmitted_bytes += too_big_frame_size(packet);
  return XDP_TX;
}

// Sends the packet that was handed over on its way.
SLUICE_INLINE int send_handed_over(struct xdp_md *context, const struct Tables *tables,
                                   const struct Decision *decision, enum Verdict verdict) {
  struct XdpCounters *counted = counters_of(tables);
  const struct XdpHandover *handover = &worker_of(tables)->handover;
  if (!counted) return XDP_ABORTED;
  if (!decision->egress) return finish(tables, counted, verdict);
  enum Verdict obstacle = check_egress(decision->egress, &handover->packet);
  if (obstacle == kVerdictDropTooBig) obstacle = too_big_verdict(tables, &handover->packet);
  if (obstacle == kVerdictReplyTooBig)
    return reply_too_big(context, tables, counted, &handover->packet, decision->egress,
                         handover->frame_length);
  if (obstacle != kVerdictUndecided) return finish(tables, counted, obstacle);
  return forward_frame(context, tables, counted, &handover->packet, decision, verdict,
                       handover->frame_length);
}

SEC("xdp")
int sluice_xdp_miss(struct xdp_md *context) {
  struct Tables tables;
  if (!begin(&tables, 0)) return XDP_ABORTED;
  struct XdpWorker *worker = worker_of(&tables);
  const struct XdpHandover *handover = &worker->handover;
  const struct Packet *packet = &handover->packet;
  const struct ConnectionKey *key = &handover->key;
  tables.generation = handover->generation & 1;
  struct Decision decision = {0, handover->service, 0, 0, 0};
  const struct Service *service = tables_service(&tables, decision.service);
  uint64_t *entry = handover->has_entry ? connection_find(&tables, key) : 0;
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
  struct Tables tables;
  if (!begin(&tables, current_generation()) || !generation_of(&tables)->installed) return XDP_DROP;
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
