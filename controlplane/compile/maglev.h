// Weighted Maglev tables: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4, with weights by turns.
#ifndef SLUICE_CONTROLPLANE_COMPILE_MAGLEV_H
#define SLUICE_CONTROLPLANE_COMPILE_MAGLEV_H

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice {

/// One backend that takes new connections.
struct MaglevMember {
  std::string_view name;  // unique among the members
  uint16_t id = 0;        // 1 to 65535: what the slots hold
  uint16_t weight = 0;    // members with weight 0 get no slot
};

/// The table of `slots` (a prime) entries, each a member's id; empty when no member has weight.
/// Which member gets which slot depends on names and weights alone: not on ids, not on the order of
/// `members`, not on the host. Each member's share is its weight's share to within a slot or so (for one
/// heavy member among a thousand light ones: to within 0.1%).
std::vector<uint16_t> build_maglev(std::span<const MaglevMember> members, uint32_t slots);

}  // namespace sluice

#endif
