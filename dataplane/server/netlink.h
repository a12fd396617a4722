// The kernel's routes, links and neighbours over rtnetlink (libnl), as plain records.
#ifndef SLUICE_SERVER_NETLINK_H
#define SLUICE_SERVER_NETLINK_H

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/abi/address.h"
#include "dataplane/abi/result.h"
#include "dataplane/server/egress_headers.h"

struct nl_sock;

namespace sluice {

struct KernelLink {
  enum class State { kUp, kDown, kGone };  // up: administratively, and running
  uint32_t ifindex = 0;
  std::string name;
  State state = State::kDown;
  LinkAddress address = {};
  uint32_t mtu = 0;            // bytes
  uint32_t lower_ifindex = 0;  // of what it lies on (a VLAN's parent), in this network namespace; 0: nothing

  bool operator==(const KernelLink &) const = default;
};

struct KernelNeighbour {
  enum class State {
    kIncomplete,  // being resolved
    kValid,
    kStale,   // valid, but the kernel will not look after it unless it is used
    kFailed,  // nobody answered
    kGone     // the kernel has forgotten it
  };
  uint32_t ifindex = 0;
  Address address = {};
  State state = State::kIncomplete;
  LinkAddress link_address = {};  // when valid or stale
};

/// Where the kernel would send a packet.
struct KernelRoute {
  enum class Kind { kUnicast, kLocal, kNone, kUnknown };  // unknown: the kernel could not be asked
  Kind kind = Kind::kNone;
  int error_number = 0;  // errno, with kNone and kUnknown
  uint32_t ifindex = 0;
  Address next_hop = {};          // the gateway, or the destination itself
  std::optional<Address> source;  // that the route prefers
  uint32_t mtu = 0;               // bytes, 0 when the route has none of its own

  bool operator==(const KernelRoute &other) const;
};

/// What an owner of Netlink is told.
class KernelEvents {
 public:
  virtual ~KernelEvents() = default;
  virtual void on_link(const KernelLink &link) = 0;
  virtual void on_neighbour(const KernelNeighbour &neighbour) = 0;
  /// Routes to destinations within the prefix may have changed. prefix_bits: of the 128 of `prefix`.
  virtual void on_route(const Address &prefix, uint32_t prefix_bits) = 0;
  /// Every route may have changed (addresses, rules, next-hop objects).
  virtual void on_all_routes() = 0;
};

/// What a dump tells, kept until it is known to be whole.
struct KernelListing : public KernelEvents {
  void on_link(const KernelLink &link) override { links.push_back(link); }
  void on_neighbour(const KernelNeighbour &neighbour) override { neighbours.push_back(neighbour); }
  void on_route(const Address & /*prefix*/, uint32_t /*prefix_bits*/) override {}
  void on_all_routes() override {}

  std::vector<KernelLink> links;
  std::vector<KernelNeighbour> neighbours;
};

/// Two sockets: one hears events, one asks. The kernel answers a question before it returns from it,
/// so asking does not wait.
class Netlink {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Netlink>> open();
  Netlink(const Netlink &) = delete;
  Netlink &operator=(const Netlink &) = delete;
  ~Netlink();

  int event_fd() const;

  enum class Heard { kAll, kOverrun };  // overrun: the kernel dropped events, so everything may differ

  /// Reads events, a bounded number, into `events`; never waits.
  Heard read_events(KernelEvents *events);

  /// Reads every link and neighbour into `events`.
  [[nodiscard]] Status dump(KernelEvents *events);

  KernelRoute route_to(const Address &destination);

  /// Says that the neighbour is in use (NTF_USE): the kernel resolves it, or confirms it when stale.
  /// Returns 0 or an errno.
  int use_neighbour(uint32_t ifindex, const Address &address);

 private:
  Netlink() = default;
  Status dump_one(int message_type, KernelEvents *events);

  nl_sock *events_ = nullptr;
  nl_sock *questions_ = nullptr;
};

/// "10.1.0.11" or "2001:db8::1".
std::string address_text(const Address &address);

}  // namespace sluice

#endif
