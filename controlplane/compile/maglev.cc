#include "controlplane/compile/maglev.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include <openssl/sha.h>

namespace sluice {
namespace {

constexpr uint16_t kFree = 0;     // no backend has this identifier
constexpr int kCreditShift = 32;  // credits are weights in units of 2^-32

// One member's walk through the slots: offset, offset + skip, offset + 2 skip, ... modulo the table's
// prime size, which visits every slot once.
struct Walk {
  std::string_view name;
  uint64_t order = 0;  // whose turn comes first in a round
  uint32_t next = 0;   // slot
  uint32_t skip = 0;
  uint64_t weight = 0;
  uint64_t credit = 0;  // grows by `weight` each round; a turn costs the largest weight
  uint32_t phase = 0;   // part of 2^32 of a turn's cost that the credit begins with
  uint16_t id = 0;
};

// Offset and skip are two parts of one SHA-256, so that they are independent of each other and nobody
// finds names that crowd the same slots.
Walk walk_of(const MaglevMember &member, uint32_t slots) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const uint8_t *>(member.name.data()), member.name.size(), digest.data());
  std::array<uint64_t, 4> parts{};  // little-endian, as the ABI says of every host
  std::memcpy(parts.data(), digest.data(), sizeof(parts));
  return {.name = member.name,
          .order = parts[2],
          .next = static_cast<uint32_t>(parts[0] % slots),
          .skip = static_cast<uint32_t>(parts[1] % (slots - 1)) + 1,
          .weight = uint64_t{member.weight} << kCreditShift,
          .credit = 0,
          .phase = static_cast<uint32_t>(parts[3]),
          .id = member.id};
}

// Gives the walk's member the next slot of its walk that nobody has. There must be one.
void take_slot(Walk *walk, std::vector<uint16_t> *table) {
  const auto slots = static_cast<uint32_t>(table->size());
  uint32_t slot = walk->next;
  while ((*table)[slot] != kFree) {
    slot += walk->skip;
    if (slot >= slots) slot -= slots;
  }
  (*table)[slot] = walk->id;
  walk->next = slot;  // taken now: the next turn goes on from here
}

}  // namespace

std::vector<uint16_t> build_maglev(std::span<const MaglevMember> members, uint32_t slots) {
  std::vector<Walk> walks;
  walks.reserve(members.size());
  uint64_t turn_cost = 0;
  for (const MaglevMember &member : members) {
    if (member.weight == 0) continue;
    walks.push_back(walk_of(member, slots));
    turn_cost = std::max(turn_cost, walks.back().weight);
  }
  if (walks.empty()) return {};
  // Without phases, all members of a small weight would take their turns in the same few rounds, and
  // the table would be full right before or right after one of them.
  for (Walk &walk : walks) walk.credit = (turn_cost >> kCreditShift) * walk.phase;
  std::ranges::sort(walks, [](const Walk &a, const Walk &b) {
    return std::tie(a.order, a.name) < std::tie(b.order, b.name);
  });

  std::vector<uint16_t> table(slots, kFree);
  uint32_t filled = 0;
  while (true) {
    for (Walk &walk : walks) {
      walk.credit += walk.weight;
      if (walk.credit < turn_cost) continue;
      walk.credit -= turn_cost;
      take_slot(&walk, &table);
      if (++filled == slots) return table;
    }
  }
}

}  // namespace sluice
