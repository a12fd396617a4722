// Entries of connection tables as the server sees them: tables that have no worker, and all tables before
// the workers run. (Workers use dataplane/core/connection.h.)
#ifndef SLUICE_SERVER_CONNECTION_ENTRIES_H
#define SLUICE_SERVER_CONNECTION_ENTRIES_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/abi/connection.h"

namespace sluice {

/// The buckets of one table and one family.
struct BucketArray {
  std::span<ConnectionBucket> buckets;
  uint32_t entry_words = 0;  // 64-bit words of an entry: 2 (IPv4) or 4 (IPv6)
};

/// The bucket as it was at one moment, while its worker may write it.
ConnectionBucket read_whole(const ConnectionBucket &from);

/// Empties the entries that are older than any timeout (SLUICE_MAX_TIMEOUT_S). At `aged_at_s`
/// (CLOCK_BOOTTIME) stamps still told every entry's age, and since then `gap_s` have passed: together they
/// may be more than stamps can tell. Returns how many.
size_t expire_entries(const BucketArray &array, uint64_t aged_at_s, uint64_t gap_s);

/// Empties the entries of `tables[first, end)` whose flow another table has as well, seen no earlier.
/// `tables`: all of one family, with ages that stamps tell at `now_s`. Takes 16 bytes of memory for each
/// entry in [first, end) while it runs. Returns how many.
size_t drop_older_twins(const std::vector<BucketArray> &tables, size_t first, size_t end, uint64_t now_s);

}  // namespace sluice

#endif
