#include "dataplane/dpdk/kernel_interface.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
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
  request = request_for(options.name);
  if (ioctl(socket_fd.get(), SIOCGIFFLAGS, &request) != 0) return failed(options.name, "reading its flags");
  request.ifr_flags = static_cast<int16_t>(request.ifr_flags | IFF_UP);
  if (ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return failed(options.name, "bringing it up");
  return Done{};
}

struct NetlinkDeleter {
  void operator()(nl_sock *socket) const { nl_socket_free(socket); }
  void operator()(nl_addr *address) const { nl_addr_put(address); }
  void operator()(rtnl_addr *address) const { rtnl_addr_put(address); }
};

Status add_address(nl_sock *socket, const std::string &interface, uint32_t ifindex,
                   const InterfaceAddress &wanted) {
  bool ipv4 = address_is_ipv4(&wanted.address);
  const void *bytes = ipv4 ? static_cast<const void *>(&wanted.address.word[3]) : &wanted.address;
  std::unique_ptr<nl_addr, NetlinkDeleter> local(
      nl_addr_build(ipv4 ? AF_INET : AF_INET6, bytes, ipv4 ? 4 : sizeof(wanted.address)));
  std::unique_ptr<rtnl_addr, NetlinkDeleter> address(rtnl_addr_alloc());
  if (!local || !address) return Error{fmt::format("kernel interface {}: out of memory", interface)};
  nl_addr_set_prefixlen(local.get(), wanted.prefix_length);
  rtnl_addr_set_ifindex(address.get(), static_cast<int>(ifindex));
  rtnl_addr_set_local(address.get(), local.get());
  // Usable at once: the port is this host's alone, and workers do not carry frames yet that could
  // find a duplicate.
  if (!ipv4) rtnl_addr_set_flags(address.get(), IFA_F_NODAD);
  int error = rtnl_addr_add(socket, address.get(), NLM_F_REPLACE);
  if (error < 0) {
    return Error{fmt::format("kernel interface {}: adding address {}: {}", interface, wanted.text,
                             nl_geterror(error))};
  }
  return Done{};
}

Status add_addresses(const KernelInterfaceOptions &options, uint32_t ifindex) {
  std::unique_ptr<nl_sock, NetlinkDeleter> socket(nl_socket_alloc());
  if (!socket || nl_connect(socket.get(), NETLINK_ROUTE) < 0) return failed(options.name, "netlink");
  for (const InterfaceAddress &address : options.addresses) {
    Status added = add_address(socket.get(), options.name, ifindex, address);
    if (!added.ok()) return added;
  }
  return Done{};
}

/// The answer to one of ethtool's questions about a flag or flags, 0 when the interface does not answer.
uint32_t ethtool_value_of(int socket_fd, const std::string &name, uint32_t question) {
  ethtool_value value = {};
  value.cmd = question;
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char *>(&value);
  return ioctl(socket_fd, SIOCETHTOOL, &request) == 0 ? value.data : 0;
}

bool is_link_local(const sockaddr *address) {
  if (address->sa_family != AF_INET6) return false;
  return IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6 *>(address)->sin6_addr);
}

std::vector<std::string> addresses_of(const std::string &name) {
  std::vector<std::string> addresses;
  ifaddrs *list = nullptr;
  if (getifaddrs(&list) != 0) return addresses;
  for (ifaddrs *entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || name != entry->ifa_name || is_link_local(entry->ifa_addr)) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (entry->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in *>(entry->ifa_addr)->sin_addr, text, sizeof(text));
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6 *>(entry->ifa_addr)->sin6_addr, text, sizeof(text));
    } else {
      continue;
    }
    addresses.emplace_back(text);
  }
  freeifaddrs(list);
  return addresses;
}

}  // namespace

Result<std::unique_ptr<KernelInterface>> KernelInterface::open(const KernelInterfaceOptions &options) {
  std::unique_ptr<KernelInterface> interface(new KernelInterface());
  interface->name_ = options.name;
  Status opened = interface->open_queues(options);
  if (!opened.ok()) return opened.error();
  interface->ifindex_ = if_nametoindex(options.name.c_str());
  Status link = set_link(options);
  if (!link.ok()) return link.error();
  Status addresses = add_addresses(options, interface->ifindex_);
  if (!addresses.ok()) return addresses.error();
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

InterfaceFacts interface_facts(const std::string &name) {
  InterfaceFacts facts;
  UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = request_for(name);
  if (!socket_fd.valid() || ioctl(socket_fd.get(), SIOCGIFMTU, &request) != 0) return facts;
  facts.exists = true;
  facts.mtu = static_cast<uint16_t>(std::min(request.ifr_mtu, 65535));
  ethtool_channels channels = {};
  channels.cmd = ETHTOOL_GCHANNELS;
  request = request_for(name);
  request.ifr_data = reinterpret_cast<char *>(&channels);
  if (ioctl(socket_fd.get(), SIOCETHTOOL, &request) == 0) {
    facts.receive_queues = static_cast<uint16_t>(channels.rx_count + channels.combined_count);
  }
  facts.addresses = addresses_of(name);
  if (ethtool_value_of(socket_fd.get(), name, ETHTOOL_GGRO) != 0) facts.merging.emplace_back("gro");
  if ((ethtool_value_of(socket_fd.get(), name, ETHTOOL_GFLAGS) & ETH_FLAG_LRO) != 0)
    facts.merging.emplace_back("lro");
  return facts;
}

}  // namespace sluice
