// What a source says of a pool's backends.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_FOUND_H
#define SLUICE_CONTROLPLANE_DISCOVERY_FOUND_H

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/address_text.h"
#include "dataplane/abi/address.h"

namespace sluice {

/// One backend, as a source names it.
struct FoundBackend {
  std::string name;
  Address address{};
  uint16_t weight = 100;                                // 0: it takes no new connections
  uint16_t priority = 0;                                // the lowest that has a healthy backend serves
  uint16_t check_port = 0;                              // layer 4; 0: the pool's
  std::optional<Address> check_address = std::nullopt;  // what checks ask; absent: `address`
  bool drain = false;
  std::chrono::milliseconds ttl{0};  // of a registration: without a word for so long it has ended; else 0

  bool operator==(const FoundBackend &) const = default;
};

/// Entries that cannot be used, each in words: how many, and the first of them, since a source can have
/// millions.
class SkippedEntries {
 public:
  static constexpr size_t kMostKept = 20;

  void add(std::string why) {
    if (count_++ < kMostKept) first_.push_back(std::move(why));
  }
  void add(const SkippedEntries &others) {
    for (const std::string &why : others.first_) add(why);
    count_ += others.count_ - others.first_.size();
  }
  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  const std::vector<std::string> &first() const { return first_; }

 private:
  size_t count_ = 0;
  std::vector<std::string> first_;
};

/// What is wrong with an entry of an answer does not keep the others from being used: one bad entry must not
/// take a pool down.
struct Answer {
  std::vector<FoundBackend> backends;
  SkippedEntries skipped;
};

/// Ordered by name, each name and each address once: of two entries with one of them the first in that order
/// stays, and the other is skipped. So two answers that say the same are equal.
Answer tidied(Answer answer);

/// The backends that are known of each pool with a source, by the pool's name.
using FoundPools = std::map<std::string, std::shared_ptr<const std::vector<FoundBackend>>>;

struct AddressHash {
  size_t operator()(const Address &address) const {
    return std::hash<std::string_view>{}({reinterpret_cast<const char *>(&address), sizeof(address)});
  }
};

/// A name that depends on the address alone, so that it is the same on every host: "10.1.0.11",
/// "2001-db8--11" (a name has no ':'), "0--1" where it would begin with '-'.
std::string address_name(const Address &address);

/// Weights of a source whose own scale is another one: ratios stay, the largest is at most kMaxWeight and
/// none is 0. All are `same` where they are all equal.
void scale_weights(std::vector<FoundBackend> *backends, const std::vector<uint32_t> &weights, uint16_t same);

}  // namespace sluice

#endif
