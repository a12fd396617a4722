// What a source says of a pool's backends.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_FOUND_H
#define SLUICE_CONTROLPLANE_DISCOVERY_FOUND_H

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/model/address_text.h"
#include "dataplane/abi/address.h"

namespace sluice {

/// One backend, as a source names it.
struct FoundBackend {
  std::string name;
  Address address{};
  uint16_t weight = 100;    // 0: it takes no new connections
  uint16_t priority = 0;    // the lowest that has a healthy backend serves
  uint16_t check_port = 0;  // layer 4; 0: the pool's
  bool drain = false;
  std::chrono::milliseconds ttl{0};  // of a registration: without a word for so long it has ended; else 0

  bool operator==(const FoundBackend &) const = default;
};

/// What is wrong with an entry of an answer does not keep the others from being used: one bad entry must not
/// take a pool down.
struct Answer {
  std::vector<FoundBackend> backends;
  std::vector<std::string> skipped;  // entries that cannot be used, each in words
};

/// Ordered by name, each name and each address once: of two entries with one of them the first in that order
/// stays, and the other is skipped. So two answers that say the same are equal.
Answer tidied(Answer answer);

/// The backends that are known of each pool with a source, by the pool's name.
using FoundPools = std::map<std::string, std::shared_ptr<const std::vector<FoundBackend>>>;

/// A name that depends on the address alone, so that it is the same on every host: "10.1.0.11",
/// "2001-db8--11" (a name has no ':'), "0--1" where it would begin with '-'.
std::string address_name(const Address &address);

/// Weights of a source whose own scale is another one: ratios stay, the largest is at most kMaxWeight and
/// none is 0. All are `same` where they are all equal.
void scale_weights(std::vector<FoundBackend> *backends, const std::vector<uint32_t> &weights, uint16_t same);

}  // namespace sluice

#endif
