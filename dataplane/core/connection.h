// Stage 3, connection: the table that keeps a connection on its backend.
//
// A flow has two candidate buckets of one cache line each. An entry is `width` 64-bit words: what
// identifies the flow, then the state word, which is alike in both families:
//
//   bits 0-31 ports | 32 protocol | 33-34 state | 35-47 stamp | 48-63 backend
//
// (ConnectionIpv4 and ConnectionIpv6 of the ABI, read as words.) An empty entry is all zeros, and no
// flow's words are, since no VIP is 0. Each table has one writer. Another reader compares the words,
// then reads the state word again: the writer clears it first and sets it last.
#ifndef SLUICE_CORE_CONNECTION_H
#define SLUICE_CORE_CONNECTION_H

#include "dataplane/core/connection_entry.h"
#include "dataplane/core/hash.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/tables.h"

SLUICE_NAMESPACE_BEGIN

enum ConnectionPolicy {
  kEvictableAgeS =
      3,  // an embryonic entry this old goes first: a client's first SYN retransmission is past (RFC 6298)
  // How far room is looked for among entries that can move. At 85% load, buckets of two (IPv6) need it.
  // and kMaxDisplacements (connection_entry.h) moves in a row
  kMaxDisplacementWalks = 8,  // tries, from each of the flow's buckets in turn
  kPatientDisplacements = 3,  // moves before an embryonic entry gives way whatever its age
  kConsistentLooks = 4        // at another worker's entry, which must all see the same
};

SLUICE_INLINE uint32_t tag_of_hash(uint64_t hash) { return (uint32_t)(hash >> 32) | 1; }
SLUICE_INLINE uint32_t first_bucket(uint64_t hash, uint32_t mask) { return (uint32_t)hash & mask; }

SLUICE_INLINE void make_connection_key(const struct Tables *tables, const struct Packet *packet,
                                       uint32_t vip_number, struct ConnectionKey *key) {
  uint64_t last = packet->ports.word | ((uint64_t)(packet->protocol == kProtocolUdp) << 32);
  key->family = packet->family;
  key->tag = tag_of_hash(packet->hash);
  key->bucket = first_bucket(packet->hash, tables_bucket_mask(tables, packet->family));
  if (SLUICE_LIKELY(packet->family == kFamilyIpv4)) {
    key->width = kIpv4Width;
    key->word[0] = (uint64_t)packet->client.word[3] | ((uint64_t)packet->vip.word[3] << 32);
    key->word[1] = last;
    key->word[2] = key->word[0];
    key->word[3] = key->word[1];
  } else {
    key->width = kIpv6Width;
    key->word[0] = (uint64_t)packet->client.word[0] | ((uint64_t)packet->client.word[1] << 32);
    key->word[1] = (uint64_t)packet->client.word[2] | ((uint64_t)packet->client.word[3] << 32);
    key->word[2] = (uint64_t)vip_number | ((uint64_t)key->tag << 32);
    key->word[3] = last;
  }
}

SLUICE_INLINE uint32_t other_bucket(uint32_t bucket, uint32_t tag, uint32_t mask) {
  return bucket ^ (tag & mask);
}

// Word `back` of an entry, counted backwards from its state word at index `state`. The masks cost nothing
// that shows, and let the BPF verifier see that the word is in the bucket.
SLUICE_INLINE uint64_t *entry_word(union ConnectionBucket *bucket, uint32_t state, uint32_t back) {
  return &bucket->word[(state - back) & (kBucketWords - 1)];
}

// Index of the state word of the place in either bucket where an entry with this tag is put if it is free.
// The tag's highest bits: the lower ones pick the other bucket.
SLUICE_INLINE uint32_t likely_place(uint32_t tag, uint8_t family) {
  return family == kFamilyIpv4 ? (tag >> 30) * kIpv4Width + kIpv4Width - 1
                               : (tag >> 31) * kIpv6Width + kIpv6Width - 1;
}

// Index of the state word of the flow's entry in the bucket, whatever its state, or -1.
SLUICE_INLINE int bucket_find(const union ConnectionBucket *bucket, const struct ConnectionKey *key) {
  // Two calls: the width is a constant in each.
  if (SLUICE_LIKELY(key->family == kFamilyIpv4)) {
    return sluice_find_entry(bucket->word, key->word, SLUICE_STATE_KEY_MASK, kIpv4Width);
  }
  return sluice_find_entry(bucket->word, key->word, SLUICE_STATE_KEY_MASK, kIpv6Width);
}

// The flow's entry if it is in the likely place of its first bucket, as most are, else null. For engines that
// compare word by word: one branch, mostly predicted, instead of a search.
SLUICE_INLINE uint64_t *connection_find_likely(const struct Tables *tables, const struct ConnectionKey *key) {
  union ConnectionBucket *bucket = tables_bucket(tables, key->family, key->bucket);
  if (!bucket) return 0;
  uint32_t state = likely_place(key->tag, key->family);
  uint64_t difference = (*entry_word(bucket, state, 0) ^ key->word[3]) & SLUICE_STATE_KEY_MASK;
  difference |= *entry_word(bucket, state, 1) ^ key->word[2];
  if (key->family != kFamilyIpv4) {
    difference |= *entry_word(bucket, state, 2) ^ key->word[1];
    difference |= *entry_word(bucket, state, 3) ^ key->word[0];
  }
  return SLUICE_LIKELY(difference == 0) ? entry_word(bucket, state, 0) : 0;
}

// The flow's entry, as a pointer to its state word, or null.
SLUICE_INLINE uint64_t *connection_find(const struct Tables *tables, const struct ConnectionKey *key) {
  union ConnectionBucket *bucket = tables_bucket(tables, key->family, key->bucket);
  if (!bucket) return 0;
  int found = bucket_find(bucket, key);
  if (SLUICE_UNLIKELY(found < 0)) {
    uint32_t mask = tables_bucket_mask(tables, key->family);
    bucket = tables_bucket(tables, key->family, other_bucket(key->bucket, key->tag, mask));
    if (!bucket) return 0;
    found = bucket_find(bucket, key);
    if (found < 0) return 0;
  }
  return &bucket->word[found & (kBucketWords - 1)];
}

// Whether the packet asks for a new connection: only TCP says so (RFC 9293 section 3.5).
SLUICE_INLINE bool opens_connection(const struct Packet *packet) {
  return (packet->tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == kTcpSyn;
}

SLUICE_INLINE uint32_t next_state(uint32_t state, uint8_t tcp_flags) {
  if (tcp_flags & (kTcpFin | kTcpRst)) return kConnectionClosing;
  bool progressed = state == kConnectionEmbryonic && (tcp_flags & kTcpSyn) == 0;
  return progressed ? (uint32_t)kConnectionEstablished : state;
}

// What a packet says of its connection's backend: `word` is the state word before it, `state` the state after
// it. Nothing of UDP, where a second packet need not mean that the first was answered.
SLUICE_INLINE enum BackendEvent backend_event(uint64_t word, uint32_t state, uint8_t tcp_flags) {
  uint32_t before = state_of(word);
  if (is_udp(word) || before == kConnectionClosing) return kBackendNoEvent;
  if (tcp_flags & kTcpRst) return kBackendReset;
  if (before != kConnectionEmbryonic) return kBackendNoEvent;
  if (state != kConnectionEmbryonic) return kBackendProgressed;
  return (tcp_flags & kTcpAck) == 0 ? kBackendOpenRepeated : kBackendNoEvent;  // a SYN: next_state()
}

// Counts what is no steady connection's packet. Out of the way: a connection has two of them or three.
SLUICE_NOINLINE void connection_changes(const struct Tables *tables, uint64_t word, uint32_t state,
                                        uint8_t tcp_flags) {
  if (state == kConnectionClosing && state_of(word) != kConnectionClosing)
    tables_connection_closed(tables, backend_of(word));
  tables_count_backend(tables, backend_of(word), backend_event(word, state, tcp_flags));
}

// Notes the packet in its entry. The line is written only when something changes: at most once a
// second for a steady connection. So a SYN counts as repeated in a later second only, and a duplicate does
// not (RFC 6298 section 2: the first retransmission waits for a second).
SLUICE_INLINE void connection_touch(const struct Tables *tables, uint64_t *entry, const struct Packet *packet,
                                    uint32_t now_s) {
  uint64_t word = *entry;
  bool ends = (packet->tcp_flags & (kTcpFin | kTcpRst)) != 0;
  if (SLUICE_LIKELY(is_established_now(word, now_s) && !ends)) return;
  uint32_t state = next_state(state_of(word), packet->tcp_flags);
  uint64_t touched = make_state(word, state, now_s, backend_of(word));
  if (touched == word) return;
  if (SLUICE_UNLIKELY(state != kConnectionEstablished || state_of(word) != kConnectionEstablished))
    connection_changes(tables, word, state, packet->tcp_flags);
  SLUICE_STORE_RELEASE(entry, touched);
}

SLUICE_INLINE uint32_t timeout_of(uint64_t word, uint16_t embryonic_s, uint16_t established_s,
                                  uint16_t closing_s, uint16_t udp_s) {
  uint32_t state = state_of(word);
  if (state == kConnectionEmbryonic) return embryonic_s;
  if (state == kConnectionClosing) return closing_s;
  return is_udp(word) ? udp_s : established_s;
}

// Whether the entry has not been seen for longer than the service's timeout for its state.
SLUICE_INLINE bool timed_out(uint64_t word, const struct Service *service, uint32_t now_s) {
  return age_of(word, now_s) > timeout_of(word, service->embryonic_timeout_s, service->established_timeout_s,
                                          service->closing_timeout_s, service->udp_timeout_s);
}

// Whether the entry's backend is still the one for this packet. A packet within a TCP connection stays
// whatever the backend's state, as long as the backend is known: breaking is for the endpoints. What
// begins something new (a SYN, or UDP after a pause or towards a dead backend) is scheduled anew.
// `egress` is that of the entry's backend, or null.
SLUICE_INLINE bool connection_holds(const struct Egress *egress, uint64_t word, const struct Packet *packet,
                                    const struct Service *service, uint32_t now_s) {
  if (!egress || (egress->flags & kEgressKnown) == 0) return false;
  bool opens = opens_connection(packet);
  if (SLUICE_LIKELY(!opens && packet->protocol == kProtocolTcp)) return true;
  if (egress->flags & kEgressDown) return false;
  if (opens) {
    if (state_of(word) == kConnectionClosing) return false;
    if (state_of(word) == kConnectionEmbryonic && (egress->flags & kEgressTakesNew) == 0) return false;
  }
  return !timed_out(word, service, now_s);
}

// Whether an entry may go, whoever's it is: its backend is gone, or it has timed out by the longest
// timeouts of the services that share the backend.
SLUICE_INLINE bool entry_expired(const struct Tables *tables, uint64_t word, uint32_t now_s) {
  const struct Backend *backend = tables_backend(tables, backend_of(word));
  if (!backend || !backend_keeps_connections(backend)) return true;
  return age_of(word, now_s) > timeout_of(word, backend->embryonic_timeout_s, backend->established_timeout_s,
                                          backend->closing_timeout_s, backend->udp_timeout_s);
}

// Empties the entry whose state word is at index `state`.
SLUICE_INLINE void entry_clear(const struct Tables *tables, union ConnectionBucket *bucket, uint32_t state,
                               uint32_t width) {
  uint64_t word = *entry_word(bucket, state, 0);
  if (state_of(word) != kConnectionClosing) tables_connection_closed(tables, backend_of(word));
  SLUICE_STORE_RELEASE(entry_word(bucket, state, 0), 0);
  SLUICE_RELEASE_FENCE();  // no reader sees the next flow's words with this one's state
  for (uint32_t i = 1; i < width; i++) *entry_word(bucket, state, i) = 0;
}

// Index of the state word of an entry of the bucket that can be overwritten: the `likely` one if it is empty,
// else another empty one, or one that has expired and is now emptied. -1 if there is none.
SLUICE_INLINE_SUBPROGRAM int bucket_make_room(const struct Tables *tables, union ConnectionBucket *bucket,
                                              uint8_t family, uint32_t likely, uint32_t now_s) {
  if (!tables || !bucket) return -1;
  uint32_t width = width_of(family);
  if (SLUICE_LIKELY(bucket->word[likely & (kBucketWords - 1)] == 0)) return (int)likely;
  for (uint32_t state = width - 1; state < kBucketWords; state += width) {
    if (bucket->word[state] == 0) return (int)state;
  }
  for (uint32_t state = width - 1; state < kBucketWords; state += width) {
    if (!entry_expired(tables, bucket->word[state], now_s)) continue;
    entry_clear(tables, bucket, state, width);
    tables_count_event(tables, kEventExpired);
    return (int)state;
  }
  return -1;
}

// The other candidate bucket of an entry of `bucket`, which is at `index`. IPv6 entries carry their tag;
// an IPv4 entry's is computed again from its key.
SLUICE_INLINE_SUBPROGRAM uint32_t entry_other_bucket(const struct Tables *tables,
                                                     union ConnectionBucket *bucket, uint32_t state,
                                                     uint8_t family, uint32_t index) {
  if (!tables || !bucket) return index;
  uint32_t mask = tables_bucket_mask(tables, family);
  uint64_t word = *entry_word(bucket, state, 0);
  uint64_t before = *entry_word(bucket, state, 1);
  if (family != kFamilyIpv4) return other_bucket(index, (uint32_t)(before >> 32), mask);
  struct Address client = address_from_ipv4((be32)before);
  struct Address vip = address_from_ipv4((be32)(before >> 32));
  uint64_t hash = flow_hash(tables_flow_hash_key(tables), &client, &vip, ports_of_word((uint32_t)word),
                            is_udp(word) ? kProtocolUdp : kProtocolTcp);
  return other_bucket(index, tag_of_hash(hash), mask);
}

// Moves an entry of `from` to an empty place of `to`; a reader finds it in one of them at any time.
SLUICE_INLINE void entry_move(union ConnectionBucket *to, uint32_t to_state, union ConnectionBucket *from,
                              uint32_t from_state, uint32_t width) {
  for (uint32_t i = 1; i < width; i++) *entry_word(to, to_state, i) = *entry_word(from, from_state, i);
  SLUICE_STORE_RELEASE(entry_word(to, to_state, 0), *entry_word(from, from_state, 0));
  SLUICE_STORE_RELEASE(entry_word(from, from_state, 0), 0);
  SLUICE_RELEASE_FENCE();
  for (uint32_t i = 1; i < width; i++) *entry_word(from, from_state, i) = 0;
}

// Empties the oldest embryonic entry of the bucket that is at least `min_age_s` old; -1 if none is.
SLUICE_INLINE_SUBPROGRAM int bucket_evict_embryonic(const struct Tables *tables,
                                                    union ConnectionBucket *bucket, uint8_t family,
                                                    uint32_t min_age_s, uint32_t now_s) {
  if (!tables || !bucket) return -1;
  uint32_t width = width_of(family);
  int oldest = -1;
  uint32_t oldest_age = min_age_s;
  for (uint32_t state = width - 1; state < kBucketWords; state += width) {
    uint32_t age = age_of(bucket->word[state], now_s);
    if (state_of(bucket->word[state]) != kConnectionEmbryonic || age < oldest_age) continue;
    oldest = (int)state;
    oldest_age = age;
  }
  if (oldest >= 0) {
    entry_clear(tables, bucket, (uint32_t)oldest, width);
    tables_count_event(tables, kEventEvicted);
  }
  return oldest;
}

// Looks for room in the other buckets of the entries of the path's bucket at `depth`. True: the path's
// place at `depth` + 1 is room for the entry at `depth`. False: it is the bucket to look on from, by way
// of an entry that path->random picks (and that does not lead back).
SLUICE_SUBPROGRAM bool displacement_step(const struct Tables *tables, uint8_t family,
                                         struct DisplacementPath *path, uint32_t depth, uint32_t now_s) {
  if (!tables || !path || depth >= kMaxDisplacements) return false;
  uint32_t width = width_of(family);
  union ConnectionBucket *bucket = tables_bucket(tables, family, path->bucket[depth]);
  if (!bucket) return false;
  uint32_t entries = family == kFamilyIpv4 ? kIpv4EntriesPerBucket : kIpv6EntriesPerBucket;
  // A flood fills every bucket with young embryonic entries: patience for them ends soon.
  uint32_t min_age_s = depth < kPatientDisplacements ? kEvictableAgeS : 0;
  SLUICE_NO_UNROLL  // it is long, and the BPF stack short
      for (uint32_t i = 0; i < kIpv4EntriesPerBucket; i++) {
    if (i >= entries) break;
    uint32_t state = ((i + (path->random >> 30)) & (entries - 1)) * width + width - 1;
    uint32_t other = entry_other_bucket(tables, bucket, state, family, path->bucket[depth]);
    union ConnectionBucket *to = tables_bucket(tables, family, other);
    if (!to) return false;
    int room = bucket_make_room(tables, to, family, state, now_s);
    if (room < 0) room = bucket_evict_embryonic(tables, to, family, min_age_s, now_s);
    if (room < 0 && i > 0 && path->bucket[depth + 1] != path->before) continue;
    path->state[depth] = (uint8_t)state;
    path->bucket[depth + 1] = other;
    path->state[depth + 1] = (uint8_t)room;
    if (room >= 0) return true;
  }
  return false;
}

// Moves the entry of the path's place at `depth` to the next. False: it does not fit any more.
SLUICE_SUBPROGRAM bool displacement_move(const struct Tables *tables, uint8_t family,
                                         const struct DisplacementPath *path, uint32_t depth) {
  if (!tables || !path || depth >= kMaxDisplacements) return false;
  uint32_t width = width_of(family);
  union ConnectionBucket *from = tables_bucket(tables, family, path->bucket[depth]);
  union ConnectionBucket *to = tables_bucket(tables, family, path->bucket[depth + 1]);
  if (!from || !to) return false;
  uint32_t from_state = path->state[depth];
  uint32_t to_state = path->state[depth + 1];
  if (*entry_word(to, to_state, 0) != 0 || *entry_word(from, from_state, 0) == 0) return false;
  if (entry_other_bucket(tables, from, from_state, family, path->bucket[depth]) != path->bucket[depth + 1])
    return false;
  entry_move(to, to_state, from, from_state, width);
  return true;
}

// Moves the entries of a path of `length` moves, from its far end on. A path that crosses itself does
// not fit any more when the crossing is reached; what has moved until then is where it may be.
SLUICE_INLINE bool displacement_shift(const struct Tables *tables, uint8_t family,
                                      const struct DisplacementPath *path, uint32_t length) {
  for (uint32_t i = kMaxDisplacements; i > 0; i--) {
    if (i <= length && !displacement_move(tables, family, path, i - 1)) return false;
  }
  return true;
}

// Makes room in the bucket at `index` by moving one of its entries to that entry's other bucket, and
// one of that bucket's before it, and so on, as in cuckoo hashing with buckets (Dietzfelbinger, Weidling,
// TCS 2007) with a random walk that moves nothing until it has found room. Answers as bucket_make_room.
SLUICE_SUBPROGRAM int bucket_displace(const struct Tables *tables, uint8_t family, uint32_t index,
                                      uint32_t random, uint32_t now_s) {
  if (!tables) return -1;
  struct DisplacementPath *path = tables_displacement_path(tables);
  path->bucket[0] = index;
  path->before = index;
  path->random = random;
  for (uint32_t depth = 0; depth < kMaxDisplacements; depth++) {
    if (!tables_take_displacement_step(tables)) return -1;
    if (displacement_step(tables, family, path, depth, now_s)) {
      return displacement_shift(tables, family, path, depth + 1) ? (int)path->state[0] : -1;
    }
    path->before = path->bucket[depth];
    path->random = path->random * 0x9e3779b1u + 1;
  }
  return -1;
}

// Where a new entry goes.
struct EntryPlace {
  union ConnectionBucket *bucket;
  int state;  // index of the state word; -1: nowhere
};

// Finds or makes room in the flow's two buckets. The cheap ways first; embryonic entries give way,
// established ones never do.
SLUICE_INLINE struct EntryPlace connection_make_room(const struct Tables *tables,
                                                     const struct ConnectionKey *key, uint32_t now_s) {
  uint32_t index[2] = {key->bucket,
                       other_bucket(key->bucket, key->tag, tables_bucket_mask(tables, key->family))};
  struct EntryPlace place = {0, -1};
  for (int i = 0; i < 2; i++) {
    place.bucket = tables_bucket(tables, key->family, index[i]);
    place.state =
        bucket_make_room(tables, place.bucket, key->family, likely_place(key->tag, key->family), now_s);
    if (SLUICE_LIKELY(place.state >= 0)) return place;
  }
  for (int i = 0; i < 2; i++) {
    place.bucket = tables_bucket(tables, key->family, index[i]);
    place.state = bucket_evict_embryonic(tables, place.bucket, key->family, kEvictableAgeS, now_s);
    if (place.state >= 0) return place;
  }
  for (uint32_t i = 0; i < kMaxDisplacementWalks; i++) {
    place.bucket = tables_bucket(tables, key->family, index[i & 1]);
    place.state = bucket_displace(tables, key->family, index[i & 1], key->tag + i, now_s);
    if (place.state >= 0) return place;
  }
  for (int i = 0; i < 2; i++) {
    place.bucket = tables_bucket(tables, key->family, index[i]);
    place.state = bucket_evict_embryonic(tables, place.bucket, key->family, 0, now_s);
    if (place.state >= 0) return place;
  }
  return place;
}

// Writes the flow's entry, whose state word goes to index `at`, where there is room.
SLUICE_INLINE void entry_write(const struct Tables *tables, union ConnectionBucket *bucket, uint32_t at,
                               const struct ConnectionKey *key, uint64_t state) {
  if (key->family == kFamilyIpv4) {
    *entry_word(bucket, at, 1) = key->word[0];
  } else {
    *entry_word(bucket, at, 3) = key->word[0];
    *entry_word(bucket, at, 2) = key->word[1];
    *entry_word(bucket, at, 1) = key->word[2];
  }
  SLUICE_STORE_RELEASE(entry_word(bucket, at, 0), state);
  if (state_of(state) != kConnectionClosing) tables_connection_opened(tables, backend_of(state));
}

// As connection_insert(), wherever there is room or can be made.
SLUICE_SUBPROGRAM bool connection_insert_anywhere(const struct Tables *tables,
                                                  const struct ConnectionKey *key, uint64_t state,
                                                  uint32_t now_s) {
  if (!tables || !key) return false;
  struct EntryPlace place = connection_make_room(tables, key, now_s);
  if (place.state < 0 || !place.bucket) return false;
  entry_write(tables, place.bucket, (uint32_t)place.state, key, state);
  return true;
}

// Enters the flow with a state word. False: its buckets are full of established connections.
SLUICE_INLINE bool connection_insert(const struct Tables *tables, const struct ConnectionKey *key,
                                     uint64_t state, uint32_t now_s) {
  union ConnectionBucket *bucket = tables_bucket(tables, key->family, key->bucket);
  uint32_t likely = likely_place(key->tag, key->family);
  SLUICE_FORGET(likely);
  if (!bucket || SLUICE_UNLIKELY(*entry_word(bucket, likely, 0) != 0))
    return connection_insert_anywhere(tables, key, state, now_s);
  entry_write(tables, bucket, likely, key, state);
  return true;
}

// Empties the flow's entry.
SLUICE_INLINE void connection_forget(const struct Tables *tables, uint64_t *entry) {
  if (state_of(*entry) != kConnectionClosing) tables_connection_closed(tables, backend_of(*entry));
  SLUICE_STORE_RELEASE(entry, 0);
}

// Gives the flow's existing entry to another backend, as a new connection.
SLUICE_INLINE void connection_replace(const struct Tables *tables, uint64_t *entry, uint64_t state) {
  if (state_of(*entry) != kConnectionClosing) tables_connection_closed(tables, backend_of(*entry));
  SLUICE_STORE_RELEASE(entry, state);
  tables_connection_opened(tables, backend_of(state));
}

// The flow's state word in another worker's table, or 0.
SLUICE_INLINE_SUBPROGRAM uint64_t peer_bucket_read(const union ConnectionBucket *bucket,
                                                   const struct ConnectionKey *key) {
  if (!bucket || !key) return 0;
  int found = bucket_find(bucket, key);
  if (found < 0) return 0;
  const uint64_t *entry = &bucket->word[found & (kBucketWords - 1)];
  uint64_t state = SLUICE_LOAD_ACQUIRE(entry);
  // The owner may have reused the entry between the comparison and the load, and again after it: one more
  // look would take two flows that change places fast enough for each other.
  for (int look = 1; look < kConsistentLooks; look++) {
    if (bucket_find(bucket, key) != found || SLUICE_LOAD_ACQUIRE(entry) != state) return 0;
  }
  return state;
}

SLUICE_SUBPROGRAM uint64_t connection_find_in_peers(const struct Tables *tables,
                                                    const struct ConnectionKey *key) {
  if (!tables || !key) return 0;
  // Read before the loop: read anew at its end, they would let it fall through to its beginning, which
  // Linux 6.1 takes for an endless one.
  uint8_t family = key->family;
  uint32_t first = key->bucket;
  uint32_t other = other_bucket(first, key->tag, tables_bucket_mask(tables, family));
  uint32_t peers = tables_peer_count(tables);
  for (uint32_t peer = 0; peer < kMaxConnectionTables; peer++) {
    if (peer >= peers) break;
    const union ConnectionBucket *bucket = tables_peer_bucket(tables, peer, family, first);
    uint64_t state = peer_bucket_read(bucket, key);
    if (state != 0) return state;
    bucket = tables_peer_bucket(tables, peer, family, other);
    state = peer_bucket_read(bucket, key);
    if (state != 0) return state;
  }
  return 0;
}

// Empties what has expired in one bucket of this worker's table, and answers how many entries that were. A
// worker calls it for a few buckets a millisecond, so that each is seen well within the stamp's 8,192
// seconds.
SLUICE_INLINE_SUBPROGRAM uint32_t sweep_bucket(const struct Tables *tables, uint8_t family, uint32_t index,
                                               uint32_t now_s) {
  if (!tables) return 0;
  uint32_t width = width_of(family);
  uint32_t expired = 0;
  union ConnectionBucket *bucket = tables_bucket(tables, family, index);
  if (!bucket) return 0;
  for (uint32_t state = width - 1; state < kBucketWords; state += width) {
    if (bucket->word[state] == 0 || !entry_expired(tables, bucket->word[state], now_s)) continue;
    entry_clear(tables, bucket, state, width);
    tables_count_event(tables, kEventExpired);
    expired++;
  }
  return expired;
}

SLUICE_NAMESPACE_END

#endif
