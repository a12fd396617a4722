// The addresses, routes and neighbours on a port's interface in the kernel, which move to another interface
// when another engine takes the port: a DPDK port has them on its tap, an XDP port on the interface itself.
#ifndef SLUICE_SERVER_INTERFACE_SETTINGS_H
#define SLUICE_SERVER_INTERFACE_SETTINGS_H

#include <memory>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/interface.h"

namespace sluice {

/// A move that is undone unless it is kept: an engine that does not start leaves the host as it was. What
/// moves is put on the new interface before it is taken from the old one, so that a process that is killed
/// meanwhile loses nothing either: the next start, of either engine, goes on from both.
class SettingsMove {
 public:
  /// Gives `to` the `addresses`, brought up if need be. Those that were on `from` are taken away there, and
  /// with them go the neighbours and the routes that leave by it, but for those that the kernel made itself;
  /// of a route of several next hops, those by it.
  /// When none was there, or no interface `from` is, routes and neighbours stay where they are.
  /// Errors: netlink, `to` is not there; nothing is changed then. A route or neighbour that cannot be put on
  /// `to` is logged: it is no reason not to start.
  [[nodiscard]] static Result<SettingsMove> make(const std::string &from, const std::string &to,
                                                 const std::vector<InterfaceAddress> &addresses);

  /// As make, from a persistent tap that a DPDK engine left; it goes when the move is kept, and its routes
  /// move in any case. None there is fine. Errors: also an interface that is no tap, or that a process has
  /// open.
  [[nodiscard]] static Result<SettingsMove> make_from_tap(const std::string &tap, const std::string &to,
                                                          const std::vector<InterfaceAddress> &addresses);

  SettingsMove(SettingsMove &&) noexcept;
  SettingsMove &operator=(SettingsMove &&) noexcept;
  ~SettingsMove();

  /// The move stays. A tap that cannot be removed is logged.
  void keep();

  /// "2 addresses, 1 route, 0 neighbours", "" when only addresses were added that were nowhere.
  std::string text() const;

 private:
  class Impl;
  explicit SettingsMove(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
