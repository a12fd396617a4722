// The addresses, routes and neighbours on a port's interface in the kernel, which move to another interface
// when another engine takes the port: a DPDK port has them on its tap, an XDP port on the interface itself.
#ifndef SLUICE_SERVER_INTERFACE_SETTINGS_H
#define SLUICE_SERVER_INTERFACE_SETTINGS_H

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/interface.h"

struct nl_object;
struct nl_sock;

namespace sluice {

/// What makes an interface the port's one in the kernel: routes and neighbours besides the addresses.
class InterfaceSettings {
 public:
  /// Takes `addresses`, as far as they are on the interface, away from it; with them go the routes that
  /// leave by it, but for those that the kernel made itself. When none of the addresses is there, nothing is
  /// taken. Errors: netlink.
  [[nodiscard]] static Result<InterfaceSettings> take_from(const std::string &interface,
                                                           const std::vector<InterfaceAddress> &addresses);

  /// As take_from, but the interface itself goes: a persistent tap that a DPDK engine left. None there is
  /// fine. Errors: the interface is no tap, or a process has it open.
  [[nodiscard]] static Result<InterfaceSettings> take_from_tap(
      const std::string &interface, const std::vector<InterfaceAddress> &addresses);

  /// Puts routes and neighbours on `interface`, which has the addresses already. What cannot be put there is
  /// logged: the start does not fail for it.
  void give_to(const std::string &interface) const;

  /// "2 addresses, 1 route", "" when nothing was taken.
  std::string text() const;

 private:
  struct Deleter {
    void operator()(nl_object *object) const;
  };
  using Object = std::unique_ptr<nl_object, Deleter>;

  void remember(nl_sock *socket, int ifindex);

  size_t addresses_ = 0;
  std::vector<Object> routes_;  // those without a gateway first
  std::vector<Object> neighbours_;
};

}  // namespace sluice

#endif
