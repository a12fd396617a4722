#include "dataplane/server/interface.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

ifreq request_for(const std::string &name) {
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

Error failed(const std::string &interface, std::string_view what) {
  return Error{fmt::format("interface {}: {}: {}", interface, what, std::strerror(errno))};
}

/// Asks one of ethtool's questions; `answer` begins with its command. False when it is not answered.
template <typename Answer>
bool ask_ethtool(int socket_fd, const std::string &name, uint32_t question, Answer *answer) {
  answer->cmd = question;
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char *>(answer);
  return ::ioctl(socket_fd, SIOCETHTOOL, &request) == 0;
}

uint32_t ethtool_value_of(int socket_fd, const std::string &name, uint32_t question) {
  ethtool_value value = {};
  return ask_ethtool(socket_fd, name, question, &value) ? value.data : 0;
}

bool is_link_local(const sockaddr *address) {
  if (address->sa_family != AF_INET6) return false;
  return IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6 *>(address)->sin6_addr);
}

std::vector<std::string> addresses_of(const std::string &name) {
  std::vector<std::string> addresses;
  ifaddrs *list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
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
  ::freeifaddrs(list);
  return addresses;
}

void look_at_offloads(int socket_fd, const std::string &name, InterfaceFacts *facts) {
  const uint32_t flags = ethtool_value_of(socket_fd, name, ETHTOOL_GFLAGS);
  if (ethtool_value_of(socket_fd, name, ETHTOOL_GGRO) != 0) facts->merging.emplace_back("gro");
  if ((flags & ETH_FLAG_LRO) != 0) facts->merging.emplace_back("lro");
  facts->strips_vlan_tags = (flags & ETH_FLAG_RXVLAN) != 0;
}

struct NetlinkDeleter {
  void operator()(nl_sock *socket) const { nl_socket_free(socket); }
  void operator()(nl_addr *address) const { nl_addr_put(address); }
  void operator()(rtnl_addr *address) const { rtnl_addr_put(address); }
};

Status add_address(nl_sock *socket, const std::string &interface, uint32_t ifindex,
                   const InterfaceAddress &wanted) {
  const bool ipv4 = address_is_ipv4(&wanted.address);
  const void *bytes = ipv4 ? static_cast<const void *>(&wanted.address.word[3]) : &wanted.address;
  std::unique_ptr<nl_addr, NetlinkDeleter> local(
      nl_addr_build(ipv4 ? AF_INET : AF_INET6, bytes, ipv4 ? 4 : sizeof(wanted.address)));
  std::unique_ptr<rtnl_addr, NetlinkDeleter> address(rtnl_addr_alloc());
  if (!local || !address) return Error{fmt::format("interface {}: out of memory", interface)};
  nl_addr_set_prefixlen(local.get(), wanted.prefix_length);
  rtnl_addr_set_ifindex(address.get(), static_cast<int>(ifindex));
  rtnl_addr_set_local(address.get(), local.get());
  // Usable at once: the address was this host's before, or the operator says that it is now.
  if (!ipv4) rtnl_addr_set_flags(address.get(), IFA_F_NODAD);
  const int error = rtnl_addr_add(socket, address.get(), NLM_F_REPLACE);
  if (error < 0)
    return Error{
        fmt::format("interface {}: adding address {}: {}", interface, wanted.text, nl_geterror(error))};
  return Done{};
}

Status bring_up(const std::string &interface) {
  const UniqueFd socket_fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.valid()) return failed(interface, "socket");
  ifreq request = request_for(interface);
  if (::ioctl(socket_fd.get(), SIOCGIFFLAGS, &request) != 0) return failed(interface, "reading its flags");
  if ((request.ifr_flags & IFF_UP) != 0) return Done{};
  request.ifr_flags = static_cast<int16_t>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return failed(interface, "bringing it up");
  return Done{};
}

}  // namespace

InterfaceFacts interface_facts(const std::string &name) {
  InterfaceFacts facts;
  const UniqueFd socket_fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = request_for(name);
  if (!socket_fd.valid() || ::ioctl(socket_fd.get(), SIOCGIFMTU, &request) != 0) return facts;
  facts.exists = true;
  facts.ifindex = ::if_nametoindex(name.c_str());
  facts.mtu = static_cast<uint16_t>(std::min(request.ifr_mtu, 65535));
  request = request_for(name);
  if (::ioctl(socket_fd.get(), SIOCGIFHWADDR, &request) == 0) {
    std::array<uint8_t, 6> mac = {};
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    facts.mac = fmt::format("{:02x}", fmt::join(mac, ":"));
  }
  ethtool_channels channels = {};
  if (ask_ethtool(socket_fd.get(), name, ETHTOOL_GCHANNELS, &channels))
    facts.receive_queues = static_cast<uint16_t>(channels.rx_count + channels.combined_count);
  ethtool_drvinfo driver = {};
  if (ask_ethtool(socket_fd.get(), name, ETHTOOL_GDRVINFO, &driver)) facts.driver = driver.driver;
  std::ifstream("/sys/class/net/" + name + "/device/numa_node") >> facts.numa_node;
  facts.addresses = addresses_of(name);
  look_at_offloads(socket_fd.get(), name, &facts);
  return facts;
}

std::string interface_of_pci(const std::string &pci_address, const std::string &pci_devices) {
  std::error_code ignored;
  for (const auto &entry :
       std::filesystem::directory_iterator(std::filesystem::path(pci_devices) / pci_address / "net", ignored))
    return entry.path().filename();
  return "";
}

Status add_addresses(const std::string &interface, const std::vector<InterfaceAddress> &addresses) {
  Status up = bring_up(interface);
  if (!up.ok()) return up;
  std::unique_ptr<nl_sock, NetlinkDeleter> socket(nl_socket_alloc());
  if (!socket || nl_connect(socket.get(), NETLINK_ROUTE) < 0) return failed(interface, "netlink");
  const uint32_t ifindex = ::if_nametoindex(interface.c_str());
  for (const InterfaceAddress &address : addresses) {
    Status added = add_address(socket.get(), interface, ifindex, address);
    if (!added.ok()) return added;
  }
  return Done{};
}

}  // namespace sluice
