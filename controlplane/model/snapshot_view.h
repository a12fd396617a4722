// Reads a snapshot (dataplane/abi/snapshot.h) that came from a peer or a disk: checked once, then
// plain access. The control plane's own reader, for recovery, for names in lists, and for tests of
// the compiler; the dataplane has its own check and trusts none of this.
#ifndef SLUICE_CONTROLPLANE_MODEL_SNAPSHOT_VIEW_H
#define SLUICE_CONTROLPLANE_MODEL_SNAPSHOT_VIEW_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

/// A snapshot's bytes. Its data() is aligned for every record of the snapshot.
using SnapshotBytes = std::vector<std::byte>;

/// A checked look at a snapshot that someone else keeps alive.
class SnapshotView {
 public:
  /// Checks magic, version, sizes, checksum, and that every section, index and name lies inside.
  /// `bytes` must be aligned to 8 and outlive the view.
  static Result<SnapshotView> open(std::span<const std::byte> bytes);

  const SnapshotHeader &header() const { return *header_; }
  std::span<const Service> services() const { return services_; }
  std::span<const Vip> vips() const { return vips_; }
  std::span<const PortRange> port_ranges() const { return port_ranges_; }
  std::span<const Backend> backends() const { return backends_; }
  std::span<const uint16_t> slots() const { return slots_; }
  std::span<const CheckSource> check_sources() const { return check_sources_; }
  std::span<const uint16_t> pins() const { return pins_; }

  std::string_view text(StringRef reference) const {
    return strings_.substr(reference.offset, reference.length);
  }

  /// The slots of one service; empty when no backend takes new connections.
  std::span<const uint16_t> slots_of(const Service &service) const {
    return slots_.subspan(service.first_slot, service.slot_count);
  }

  /// The VIP of `address`, nullptr when the snapshot has none. Searches as the dataplane does:
  /// by vip_hash(), at most kMaxVipProbes entries.
  const Vip *find_vip(const Address &address) const;

  /// The VIP of that number, nullptr when the snapshot has none. Linear.
  const Vip *find_vip_by_number(uint32_t number) const;

  enum class Transport : uint8_t { kTcp, kUdp };

  /// The identifier of the service that takes `l4_port` (host order) of `vip`, if any.
  std::optional<uint32_t> find_service(const Vip &vip, Transport transport, uint16_t l4_port) const;

 private:
  const SnapshotHeader *header_ = nullptr;
  std::span<const Service> services_;
  std::span<const Vip> vips_;
  std::span<const PortRange> port_ranges_;
  std::span<const Backend> backends_;
  std::span<const uint16_t> slots_;
  std::string_view strings_;
  std::span<const CheckSource> check_sources_;
  std::span<const uint16_t> pins_;
};

}  // namespace sluice

#endif
