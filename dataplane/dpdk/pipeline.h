// The staged burst: the core's stages over up to 32 frames at a time, with a prefetch between one
// stage's answer and the next one's look. The same stages as forward.h's decide(), in the same order
// for each frame; frames of one burst are decided in the order in which they came.
//
//   parse, hash | prefetch VIP and bucket -> find_service, choose_backend | prefetch egress
//   -> check_egress, encapsulate
//
// with one more look ahead, for its slot and second bucket, at what opens a connection.
//
// On a cold table a line costs 180 ns alone and 10 ns among 32 in flight; that is why.
#ifndef SLUICE_DPDK_PIPELINE_H
#define SLUICE_DPDK_PIPELINE_H

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/core/forward.h"
#include "dataplane/server/memory_tables.h"

namespace sluice {

constexpr uint32_t kBurstSize = 32;  // frames

/// What was decided for one received frame; one with a forward verdict is already encapsulated, one with
/// a reply verdict already the answer.
struct FrameResult : Decision {
  uint32_t bytes;  // of the frame as received
  uint16_t port;   // index of the logical port to leave by, kArrivalPort or kNoPort
};

constexpr uint16_t kNoPort = 0xffff;       // the frame does not leave
constexpr uint16_t kArrivalPort = 0xfffe;  // an answer: leaves by the port that the frame came by

/// What is known of a burst as a whole.
struct BurstResult {
  uint64_t received_bytes;     // of all frames as received
  uint64_t transmitted_bytes;  // of all frames as they are now
  uint16_t common_port;        // by which every frame is forwarded; kNoPort if there is no such port
};

namespace pipeline_detail {

/// What the stages pass on, for each frame of the burst.
struct FrameWork {
  Packet packet;
  uint32_t vip_index;
};

SLUICE_INLINE Frame frame_of(const rte_mbuf *mbuf) {
  const uint8_t *start = rte_pktmbuf_mtod(mbuf, const uint8_t *);
  return {start, start + mbuf->data_len, mbuf->pkt_len};
}

SLUICE_INLINE void prefetch_bucket(const Tables &tables, const Packet &packet) {
  const uint32_t mask = tables_bucket_mask(&tables, packet.family);
  rte_prefetch0(tables_bucket(&tables, packet.family, first_bucket(packet.hash, mask)));
}

/// Returns whether the packet opens a connection, which the table hardly knows.
SLUICE_INLINE bool parse_stage(const Tables &tables, const rte_mbuf *mbuf, FrameWork *work,
                               FrameResult *result) {
  Frame frame = frame_of(mbuf);
  *result = {{nullptr, 0, 0, static_cast<uint8_t>(parse(&frame, &work->packet)), 0}, frame.length, kNoPort};
  if (result->verdict != kVerdictUndecided) return false;
  work->vip_index = vip_index(&tables, &work->packet.vip);
  rte_prefetch0(&tables.vips[work->vip_index]);
  hash_flow(&tables, &work->packet);
  prefetch_bucket(tables, work->packet);
  return opens_connection(&work->packet);
}

/// What a new connection will look at besides its first bucket.
SLUICE_INLINE void prefetch_stage(const Tables &tables, const FrameWork *work, const FrameResult *result) {
  const Packet &packet = work->packet;
  ServiceMatch match = {0, 0};
  if (result->verdict != kVerdictUndecided || !opens_connection(&packet)) return;
  if (find_service(&tables, &packet, work->vip_index, &match) != kVerdictUndecided) return;
  const Service &service = tables.services[match.service];
  const uint32_t mask = tables_bucket_mask(&tables, packet.family);
  const uint32_t other = other_bucket(first_bucket(packet.hash, mask), tag_of_hash(packet.hash), mask);
  rte_prefetch0(tables_bucket(&tables, packet.family, other));
  rte_prefetch0(&tables.slots[service.first_slot + slot_of_hash(&service, packet.hash)]);
}

SLUICE_INLINE void decide_stage(const Tables &tables, uint32_t now_s, const FrameWork *work,
                                FrameResult *result) {
  if (result->verdict != kVerdictUndecided) return;
  ServiceMatch match = {0, 0};
  Verdict verdict = find_service(&tables, &work->packet, work->vip_index, &match);
  if (verdict == kVerdictUndecided) {
    ConnectionKey key;
    make_connection_key(&tables, &work->packet, match.vip_number, &key);
    result->service = match.service;
    verdict = choose_backend(&tables, &work->packet, &key, now_s, result);
    rte_prefetch0(result->egress);
    rte_prefetch0(&tables.backend_counters[result->backend]);
  }
  result->verdict = static_cast<uint8_t>(verdict);
}

/// Makes room in front of the inner packet, cuts link padding off behind it, and writes the headers.
SLUICE_INLINE Verdict encapsulate_in_mbuf(rte_mbuf *mbuf, const Egress &egress, const Packet &packet) {
  uint32_t header_size = kEthernetHeaderSize + egress.outer_size;
  uint32_t growth = header_size - packet.l3_offset;
  uint32_t padding = mbuf->pkt_len - packet.l3_offset - packet.l3_length;
  if (unlikely(padding > 0) && rte_pktmbuf_trim(mbuf, static_cast<uint16_t>(padding)) != 0) {
    return kVerdictDropInternal;  // padding that spans segments: no port makes such frames
  }
  char *start = rte_pktmbuf_prepend(mbuf, static_cast<uint16_t>(growth));
  if (unlikely(!start)) return kVerdictDropNoHeadroom;
  encapsulate(reinterpret_cast<uint8_t *>(start), &egress, &packet);
  return kVerdictUndecided;
}

/// Makes the frame an answer to itself, to go back by the port that it came from.
inline Verdict reply_too_big(rte_mbuf *mbuf, const Egress &egress, const Packet &packet) {
  if (mbuf->data_len < packet.l3_offset + kQuotedSize) return kVerdictDropTooBig;
  auto *start =
      reinterpret_cast<uint8_t *>(rte_pktmbuf_prepend(mbuf, static_cast<uint16_t>(too_big_growth(&packet))));
  if (unlikely(!start)) return kVerdictDropNoHeadroom;
  write_too_big(start, &egress, &packet);
  rte_pktmbuf_free(mbuf->next);  // further segments, if any
  mbuf->next = nullptr;
  mbuf->nb_segs = 1;
  mbuf->data_len = static_cast<uint16_t>(too_big_frame_size(&packet));
  mbuf->pkt_len = mbuf->data_len;
  return kVerdictReplyTooBig;
}

/// A frame that cannot go the way that was chosen for it.
inline void obstacle_stage(const Tables &tables, rte_mbuf *mbuf, const Packet &packet, Verdict obstacle,
                           FrameResult *result) {
  if (obstacle == kVerdictDropTooBig) obstacle = too_big_verdict(&tables, &packet);
  if (obstacle == kVerdictReplyTooBig) obstacle = reply_too_big(mbuf, *result->egress, packet);
  result->port = obstacle == kVerdictReplyTooBig ? kArrivalPort : kNoPort;
  result->verdict = static_cast<uint8_t>(obstacle);
}

SLUICE_INLINE void write_stage(const Tables &tables, rte_mbuf *mbuf, const FrameWork *work,
                               FrameResult *result) {
  if (!result->egress) return;
  Verdict obstacle = check_egress(result->egress, &work->packet);
  if (likely(obstacle == kVerdictUndecided)) {
    obstacle = encapsulate_in_mbuf(mbuf, *result->egress, work->packet);
  }
  if (unlikely(obstacle != kVerdictUndecided)) {
    obstacle_stage(tables, mbuf, work->packet, obstacle, result);
    return;
  }
  result->port = result->egress->port;
}

}  // namespace pipeline_detail

/// Decides `count` (at most kBurstSize) received frames at `now_s` (CLOCK_BOOTTIME seconds), and
/// encapsulates those with a forward verdict in place. Frames keep their owner: the caller.
inline BurstResult run_burst(const Tables &tables, rte_mbuf *const *frames, uint32_t count, uint32_t now_s,
                             FrameResult *results) {
  using namespace pipeline_detail;
  FrameWork work[kBurstSize];
  for (uint32_t i = 0; i < count; i++) rte_prefetch0(rte_pktmbuf_mtod(frames[i], const void *));
  bool some_open = false;
  for (uint32_t i = 0; i < count; i++) some_open |= parse_stage(tables, frames[i], &work[i], &results[i]);
  for (uint32_t i = 0; some_open && i < count; i++) prefetch_stage(tables, &work[i], &results[i]);
  for (uint32_t i = 0; i < count; i++) decide_stage(tables, now_s, &work[i], &results[i]);
  BurstResult burst = {0, 0, kNoPort};
  uint32_t other_ports = 0;  // not 0: some frame leaves by another port than the first, or not at all
  for (uint32_t i = 0; i < count; i++) {
    burst.received_bytes += results[i].bytes;
    write_stage(tables, frames[i], &work[i], &results[i]);
    if (i == 0) burst.common_port = results[0].port;
    other_ports |= results[i].port ^ burst.common_port;
    burst.transmitted_bytes += frames[i]->pkt_len;
  }
  if (other_ports != 0 || burst.common_port >= kArrivalPort) burst.common_port = kNoPort;
  return burst;
}

/// Counts a frame's final verdict, and its traffic if it was forwarded. Exactly once per received
/// frame, when it is known what became of it.
SLUICE_INLINE void count_frame(const Tables &tables, const FrameResult &result, Verdict final_verdict) {
  tables.worker->verdict_packets[final_verdict]++;
  if (verdict_class(final_verdict) != kVerdictClassForward) return;
  tables.backend_counters[result.backend].packets++;
  tables.backend_counters[result.backend].bytes += result.bytes;
  tables.service_counters[result.service].packets++;
  tables.service_counters[result.service].bytes += result.bytes;
}

/// Which of `workers` owns the frame's flow, where the port does not spread flows itself; `self` for
/// a frame that belongs to no flow. Uses bits of the flow hash that neither bucket nor slot depend on.
inline uint32_t owner_of_frame(const Tables &tables, const rte_mbuf *mbuf, uint32_t workers, uint32_t self) {
  Packet packet;
  Frame frame = pipeline_detail::frame_of(mbuf);
  if (parse(&frame, &packet) != kVerdictUndecided || packet.l4_verdict != kVerdictUndecided) return self;
  hash_flow(&tables, &packet);
  return static_cast<uint32_t>(((packet.hash >> 24) & 0xffff) * workers >> 16);
}

/// Expires entries of `count` buckets of both families of the worker's own table, from `cursor` on
/// (which moves). Meant for every millisecond, with count so that a pass takes about a minute.
inline void sweep_buckets(const Tables &tables, uint32_t *cursor, uint32_t count, uint32_t now_s) {
  for (uint32_t i = 0; i < count; i++, ++*cursor) {
    sweep_bucket(&tables, kFamilyIpv4, *cursor & tables_bucket_mask(&tables, kFamilyIpv4), now_s);
    sweep_bucket(&tables, kFamilyIpv6, *cursor & tables_bucket_mask(&tables, kFamilyIpv6), now_s);
  }
}

}  // namespace sluice

#endif
