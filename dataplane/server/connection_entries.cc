#include "dataplane/server/connection_entries.h"

#include <algorithm>

#include "dataplane/abi/snapshot.h"
#include "dataplane/core/connection_entry.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

uint64_t state_word(const uint64_t *entry, uint32_t words) { return entry[words - 1]; }

bool is_empty(const uint64_t *entry, uint32_t words) {
  return state_of(state_word(entry, words)) == kConnectionEmpty;
}

uint64_t age_at(const uint64_t *entry, uint32_t words, uint64_t now_s) {
  return age_of(state_word(entry, words), static_cast<uint32_t>(now_s));
}

/// As a worker does: the last word first, so that no reader takes a part of the entry for another one.
void clear(uint64_t *entry, uint32_t words) {
  __atomic_store_n(&entry[words - 1], 0, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  for (uint32_t word = 0; word + 1 < words; word++) __atomic_store_n(&entry[word], 0, __ATOMIC_RELAXED);
}

/// Calls visit(entry) for every entry that is in use.
template <typename Visit>
void for_each_entry(const BucketArray &array, const Visit &visit) {
  for (ConnectionBucket &bucket : array.buckets)
    for (uint32_t word = 0; word < kBucketWords; word += array.entry_words)
      if (!is_empty(&bucket.word[word], array.entry_words)) visit(&bucket.word[word]);
}

bool is_same_flow(const uint64_t *a, const uint64_t *b, uint32_t words) {
  return std::equal(a, a + words - 1, b) && ((a[words - 1] ^ b[words - 1]) & SLUICE_STATE_KEY_MASK) == 0;
}

uint64_t flow_of(const uint64_t *entry, uint32_t words) {
  uint64_t sum = 0;
  for (uint32_t word = 0; word + 1 < words; word++) sum = mix_bits(sum + entry[word]);
  return mix_bits(sum + (entry[words - 1] & SLUICE_STATE_KEY_MASK));
}

/// Where a flow has an entry.
struct Place {
  uint64_t flow;  // flow_of
  uint64_t *entry;
};

bool comes_first(const Place &a, const Place &b) { return a.flow < b.flow; }

}  // namespace

ConnectionBucket read_whole(const ConnectionBucket &from) {
  constexpr int kTries = 100;  // a worker writes an entry within nanoseconds
  ConnectionBucket read = {};
  for (int i = 0; i < kTries; i++) {
    for (int word = 0; word < kBucketWords; word++)
      read.word[word] = __atomic_load_n(&from.word[word], __ATOMIC_ACQUIRE);
    int same = 0;
    for (int word = 0; word < kBucketWords; word++)
      same += read.word[word] == __atomic_load_n(&from.word[word], __ATOMIC_ACQUIRE) ? 1 : 0;
    if (same == kBucketWords) return read;
  }
  return {};
}

size_t expire_entries(const BucketArray &array, uint64_t aged_at_s, uint64_t gap_s) {
  size_t expired = 0;
  for_each_entry(array, [&](uint64_t *entry) {
    if (age_at(entry, array.entry_words, aged_at_s) + gap_s <= SLUICE_MAX_TIMEOUT_S) return;
    clear(entry, array.entry_words);
    expired++;
  });
  return expired;
}

size_t drop_older_twins(const std::vector<BucketArray> &tables, size_t first, size_t end, uint64_t now_s) {
  std::vector<Place> places;
  for (size_t table = first; table < end; table++) {
    const uint32_t words = tables[table].entry_words;
    for_each_entry(tables[table], [&](uint64_t *entry) { places.push_back({flow_of(entry, words), entry}); });
  }
  std::sort(places.begin(), places.end(), comes_first);
  size_t dropped = 0;
  for (const BucketArray &array : tables) {
    const uint32_t words = array.entry_words;
    for_each_entry(array, [&](uint64_t *entry) {
      const Place wanted = {flow_of(entry, words), entry};
      const auto [from, to] = std::equal_range(places.begin(), places.end(), wanted, comes_first);
      for (const Place &place : std::span(from, to)) {
        const bool twin =
            place.entry != entry && !is_empty(place.entry, words) && is_same_flow(place.entry, entry, words);
        if (!twin || age_at(place.entry, words, now_s) < age_at(entry, words, now_s)) continue;
        clear(place.entry, words);
        dropped++;
      }
    });
  }
  return dropped;
}

}  // namespace sluice
