#include "dataplane/dpdk/kernel_interface.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace sluice {
namespace {

ifreq request_for(const std::string &name) {
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

Error failed(const std::string &interface, std::string_view what) {
  return Error{fmt::format("kernel interface {}: {}: {}", interface, what, strerror(errno))};
}

Status set_link(const KernelInterfaceOptions &options) {
  UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.valid()) return failed(options.name, "socket");
  bool has_mac = std::any_of(options.mac.begin(), options.mac.end(), [](uint8_t byte) { return byte != 0; });
  ifreq request = request_for(options.name);
  if (has_mac) {
    request.ifr_hwaddr.sa_family = 1;  // ARPHRD_ETHER
    memcpy(request.ifr_hwaddr.sa_data, options.mac.data(), options.mac.size());
    if (ioctl(socket_fd.get(), SIOCSIFHWADDR, &request) != 0) return failed(options.name, "setting its MAC");
  }
  request = request_for(options.name);
  request.ifr_mtu = options.mtu;
  if (ioctl(socket_fd.get(), SIOCSIFMTU, &request) != 0) {
    return failed(options.name, fmt::format("setting MTU {}", options.mtu));
  }
  return Done{};
}

}  // namespace

Result<std::unique_ptr<KernelInterface>> KernelInterface::open(const KernelInterfaceOptions &options) {
  std::unique_ptr<KernelInterface> interface(new KernelInterface());
  interface->name_ = options.name;
  interface->origin_ = if_nametoindex(options.name.c_str()) == 0 ? Origin::kMade : Origin::kFound;
  Status opened = interface->open_queues(options);
  if (opened.ok()) opened = set_link(options);
  if (!opened.ok()) {
    if (interface->origin_ == Origin::kMade && !interface->queues_.empty())
      (void)interface->remove_on_close().ok();
    return opened.error();
  }
  interface->ifindex_ = if_nametoindex(options.name.c_str());
  return interface;
}

Status KernelInterface::open_queues(const KernelInterfaceOptions &options) {
  for (uint16_t queue = 0; queue < options.queues; queue++) {
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return failed(options.name, "opening /dev/net/tun");
    ifreq request = request_for(options.name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
    if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
      std::string_view hint = errno == EINVAL  ? "attaching (an interface of this name exists and is no "
                                                 "multi-queue tap: remove it or give another kernel=NAME)"
                              : errno == EBUSY ? "attaching (another process has it)"
                                               : "attaching";
      return failed(options.name, hint);
    }
    // No offload: frames come with their checksums done and cut to the MTU, as a wire wants them.
    if (ioctl(fd.get(), TUNSETOFFLOAD, 0) != 0) return failed(options.name, "turning offloads off");
    if (queue == 0 && ioctl(fd.get(), TUNSETPERSIST, 1) != 0)
      return failed(options.name, "making it persist");
    queues_.push_back(std::move(fd));
  }
  return Done{};
}

Status KernelInterface::remove_on_close() {
  if (ioctl(queues_.front().get(), TUNSETPERSIST, 0) != 0) return failed(name_, "making it go");
  return Done{};
}

}  // namespace sluice
