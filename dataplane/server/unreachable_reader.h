// Listens for ICMP errors about the packets that the engine sends to backends. They come to the host's own
// address, which is the outer source, so both engines leave them to the kernel; raw sockets get a copy of
// each.
#ifndef SLUICE_SERVER_UNREACHABLE_READER_H
#define SLUICE_SERVER_UNREACHABLE_READER_H

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/address_keys.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// Not thread-safe: the server's thread owns it.
class UnreachableReader {
 public:
  /// Opens the sockets, filtered in the kernel: nothing but Destination Unreachable comes, and over IPv6
  /// Parameter Problem. Errors: no privilege (CAP_NET_RAW). A host without IPv6 is none.
  [[nodiscard]] static Result<UnreachableReader> open();

  /// Readable when there is something to read; the second is -1 on a host without IPv6.
  std::array<int, 2> fds() const { return {ipv4_.get(), ipv6_.get()}; }

  /// Whose errors count from now on (index = identifier).
  void set_backends(std::span<const Backend> backends);

  /// Reads a bounded number of messages and adds them to the counts (by identifier) of the backends that have
  /// the address: in several pools there may be several. Never waits.
  void read(std::span<uint64_t> counts);

 private:
  UnreachableReader(UniqueFd ipv4, UniqueFd ipv6) : ipv4_(std::move(ipv4)), ipv6_(std::move(ipv6)) {}
  void count(const Address &backend, std::span<uint64_t> counts) const;

  UniqueFd ipv4_;
  UniqueFd ipv6_;
  std::unordered_multimap<Address, uint32_t, AddressHash, AddressEqual> backends_;
};

}  // namespace sluice

#endif
