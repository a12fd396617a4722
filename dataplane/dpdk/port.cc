#include "dataplane/dpdk/port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <spdlog/spdlog.h>

#include "dataplane/dpdk/leftover_program.h"
#include "dataplane/server/interface.h"

namespace sluice {
namespace {

constexpr uint16_t kDefaultDescriptors = 1024;
constexpr uint16_t kLargestMtu = 9600;
constexpr uint16_t kAfPacketMtu = 1900;  // of its default frames of 2048 bytes, headers and tags taken off
constexpr uint64_t kRssFunctions = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;

Error device_error(std::string_view field, std::string_view value, std::string_view what, int error) {
  return Error{fmt::format("{}: \"{}\": {}: {}", field, value, what, strerror(error < 0 ? -error : error))};
}

bool is_driver(std::string_view driver, std::string_view name) { return driver.starts_with(name); }

/// Drivers whose receive and transmit queues come in pairs.
bool has_paired_queues(std::string_view driver) {
  return is_driver(driver, "net_af_xdp") || is_driver(driver, "net_tap");
}

/// Drivers of which every queue that exists has a source of its own and must be polled.
bool has_fixed_queues(std::string_view driver) {
  return is_driver(driver, "net_pcap") || is_driver(driver, "net_ring") || is_driver(driver, "net_af_packet");
}

/// The argument by which a virtual device is told its number of queues, or "".
std::string_view queue_argument(std::string_view driver) {
  if (is_driver(driver, "net_af_packet")) return "qpairs";
  if (is_driver(driver, "net_vhost") || is_driver(driver, "net_virtio_user")) return "queues";
  return "";
}

/// net_af_xdp takes one queue per device here: one device for each queue of the interface.
std::vector<DeviceOptions> expand_af_xdp(const DeviceOptions &device, uint16_t wanted_queues,
                                         const PortEnvironment &environment) {
  DeviceOptions one = device;
  // Preferred busy polling makes every empty poll a system call, and it suspends the interrupts that a
  // sleeping worker relies on.
  if (one.argument("busy_budget").empty() && environment.sleeps_when_idle) {
    one.arguments.emplace_back("busy_budget", "0");
  }
  if (!device.argument("start_queue").empty()) return {one};
  uint16_t queues = wanted_queues;
  if (queues == 0) queues = std::max<uint16_t>(1, interface_facts(device.argument("iface")).receive_queues);
  std::vector<DeviceOptions> expanded;
  for (uint16_t queue = 0; queue < queues; queue++) {
    expanded.push_back(one);
    expanded.back().arguments.emplace_back("start_queue", std::to_string(queue));
    expanded.back().arguments.emplace_back("queue_count", "1");
  }
  return expanded;
}

std::vector<DeviceOptions> expand(const DeviceOptions &device, uint16_t wanted_queues,
                                  const PortEnvironment &environment) {
  if (is_driver(device.driver, "net_af_xdp")) return expand_af_xdp(device, wanted_queues, environment);
  DeviceOptions one = device;
  std::string_view argument = queue_argument(device.driver);
  if (wanted_queues > 0 && !argument.empty() && one.argument(argument).empty()) {
    one.arguments.emplace_back(argument, std::to_string(wanted_queues));
  }
  return {one};
}

Error pci_missing(const DeviceOptions &device) {
  namespace fs = std::filesystem;
  fs::path path = fs::path("/sys/bus/pci/devices") / device.driver;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    return Error{fmt::format("device: \"{}\": there is no PCI device at this address (lspci -D lists them)",
                             device.driver)};
  }
  std::string driver = fs::read_symlink(path / "driver", ignored).filename();
  return Error{fmt::format(
      "device: \"{}\": DPDK found no network port there; it is bound to {}; bind it to "
      "vfio-pci with: dpdk-devbind.py -b vfio-pci {}",
      device.driver, driver.empty() ? "no driver" : "the driver \"" + driver + "\"", device.driver)};
}

/// Before DPDK complains in its own words: whether the interface is there and free.
Status check_interface(const DeviceOptions &device, std::vector<std::string> *notes) {
  std::string interface = device.argument("iface");
  bool needed = is_driver(device.driver, "net_af_xdp") || is_driver(device.driver, "net_af_packet");
  if (!needed) return Done{};
  if (interface.empty()) {
    return Error{fmt::format("device: \"{}\": argument iface is missing; give {}:iface=INTERFACE",
                             device.driver, device.driver)};
  }
  if (!interface_facts(interface).exists) {
    return Error{fmt::format("device: iface=\"{}\" does not exist in this network namespace", interface)};
  }
  if (!is_driver(device.driver, "net_af_xdp")) return Done{};
  Result<std::string> removed = remove_leftover_program(interface);
  if (!removed.ok()) return removed.error();
  if (!removed.value().empty()) {
    spdlog::warn("{}", removed.value());
    notes->push_back(removed.value());
  }
  return Done{};
}

/// What DPDK will let the device be configured with (rte_eth_dev_configure checks it the same way).
uint16_t configurable_mtu(const rte_eth_dev_info &info) {
  uint32_t overhead = info.max_mtu != UINT16_MAX && info.max_rx_pktlen > info.max_mtu
                          ? info.max_rx_pktlen - info.max_mtu
                          : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
  uint32_t by_length = info.max_rx_pktlen > overhead ? info.max_rx_pktlen - overhead : info.max_mtu;
  return static_cast<uint16_t>(std::min<uint32_t>({info.max_mtu, by_length, kLargestMtu}));
}

/// Bytes of IP packet that the device can carry.
uint16_t largest_mtu(const rte_eth_dev_info &info) {
  // It says 1500, and takes what fits its frames (argument framesz).
  if (is_driver(info.driver_name, "net_af_packet")) return kAfPacketMtu;
  return configurable_mtu(info);
}

std::string mac_text(const std::array<uint8_t, 6> &mac) { return fmt::format("{:02x}", fmt::join(mac, ":")); }

}  // namespace

Result<std::unique_ptr<Port>> Port::probe(const PortOptions &options, const PortEnvironment &environment) {
  std::unique_ptr<Port> port(new Port(options));
  port->report_.name = options.name;
  port->worker_count_ = environment.worker_count;
  Status status = port->create_devices(environment);
  if (status.ok()) status = port->plan(environment);
  if (!status.ok()) return Error{fmt::format("port {}: {}", options.name, status.error().message)};
  return port;
}

Port::~Port() {
  for (const Device &device : devices_) {
    char name[RTE_ETH_NAME_MAX_LEN] = {};
    rte_eth_dev_get_name_by_port(device.id, name);
    rte_eth_dev_stop(device.id);
    rte_eth_dev_close(device.id);
    if (device.created) rte_eal_hotplug_remove("vdev", name);
  }
}

Status Port::create_devices(const PortEnvironment &environment) {
  size_t number = 0;
  for (const DeviceOptions &listed : options_.devices) {
    Status free = check_interface(listed, &report_.notes);
    if (!free.ok()) return free;
    for (const DeviceOptions &device : expand(listed, options_.queues, environment)) {
      Status attached = attach(device, fmt::format("{}_{}_{}", device.driver, options_.name, number++));
      if (!attached.ok()) return attached;
    }
  }
  return Done{};
}

Status Port::attach(const DeviceOptions &device, const std::string &name) {
  uint16_t id = 0;
  bool exists = rte_eth_dev_get_port_by_name(device.driver.c_str(), &id) == 0;
  if (!exists && device.is_pci()) return pci_missing(device);
  if (!exists) {
    if (name.size() >= RTE_ETH_NAME_MAX_LEN) {
      return Error{fmt::format("name: \"{}\": device name {} is too long for DPDK; give a shorter one",
                               options_.name, name)};
    }
    if (is_driver(device.driver, "net_virtio_user") && device.argument("server") == "1") {
      spdlog::info("port {}: {} waits until the other side connects to {}", options_.name, device.driver,
                   device.argument("path"));
    }
    int error = rte_eal_hotplug_add("vdev", name.c_str(), device.argument_text().c_str());
    if (error != 0 || rte_eth_dev_get_port_by_name(name.c_str(), &id) != 0) {
      return device_error("device", device.driver + ":" + device.argument_text(),
                          "DPDK could not create it (its log above says why; is the driver's name right?)",
                          error);
    }
  }
  devices_.push_back({.id = id, .created = !exists});
  report_.devices.push_back(exists ? device.driver : name);
  return Done{};
}

Status Port::plan(const PortEnvironment &environment) {
  for (Device &device : devices_) {
    Status planned = plan_device(&device, environment);
    if (!planned.ok()) return planned;
    for (uint16_t queue = 0; queue < device.receive_queues; queue++) receive_.push_back({device.id, queue});
    for (uint16_t queue = 0; queue < device.transmit_queues; queue++) transmit_.push_back({device.id, queue});
  }
  locks_ = std::make_unique<rte_spinlock_t[]>(transmit_.size());
  for (size_t queue = 0; queue < transmit_.size(); queue++) rte_spinlock_init(&locks_[queue]);
  rte_ether_addr mac = {};
  if (rte_eth_macaddr_get(devices_.front().id, &mac) == 0) {
    std::copy(std::begin(mac.addr_bytes), std::end(mac.addr_bytes), mac_.begin());
  }
  report_.mac = mac_text(mac_);
  report_.receive_queues = static_cast<uint16_t>(receive_.size());
  report_.transmit_queues = static_cast<uint16_t>(transmit_.size());
  report_.numa_node = rte_eth_dev_socket_id(devices_.front().id);
  plan_steering(environment);
  look_at_interface(environment);
  return plan_mtu();
}

Status Port::plan_device(Device *device, const PortEnvironment &environment) {
  rte_eth_dev_info info = {};
  int error = rte_eth_dev_info_get(device->id, &info);
  if (error != 0) return device_error("device", report_.devices.back(), "asking for its abilities", error);
  report_.driver = info.driver_name;
  std::string_view driver = info.driver_name;
  uint64_t rss = info.flow_type_rss_offloads & kRssFunctions;

  uint16_t wanted = 1;
  if (is_driver(driver, "net_af_xdp") || has_fixed_queues(driver)) {
    wanted = info.max_rx_queues;
  } else if (options_.queues > 0) {
    wanted = options_.queues;
  } else if (rss != 0) {
    wanted = environment.worker_count;
  }
  if (options_.queues > info.max_rx_queues && !is_driver(driver, "net_af_xdp")) {
    return Error{fmt::format("queues: {}: the device has at most {}", options_.queues, info.max_rx_queues)};
  }
  device->receive_queues = std::min(wanted, info.max_rx_queues);
  device->transmit_queues = has_paired_queues(driver)
                                ? device->receive_queues
                                : std::min<uint16_t>(environment.worker_count, info.max_tx_queues);
  device->rss_functions = device->receive_queues > 1 ? rss : 0;
  device->transmit_offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
  if (device->transmit_offloads != 0 && report_.offloads.empty()) {
    report_.offloads.emplace_back("fast free (all buffers are of one pool)");
  }

  uint16_t receive = descriptors(info.default_rxportconf.ring_size);
  uint16_t transmit = descriptors(info.default_txportconf.ring_size);
  rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &receive, &transmit);
  report_.receive_descriptors = receive;
  report_.transmit_descriptors = transmit;
  return Done{};
}

uint16_t Port::descriptors(uint16_t preferred) const {
  if (options_.descriptors > 0) return options_.descriptors;
  return preferred > 0 ? preferred : kDefaultDescriptors;
}

void Port::plan_steering(const PortEnvironment &environment) {
  size_t queues = receive_.size();
  bool too_few = queues < environment.worker_count;
  bool rss =
      std::any_of(devices_.begin(), devices_.end(), [](const Device &d) { return d.rss_functions != 0; });
  report_.steered = environment.worker_count > 1 && (options_.steering == SteeringMode::kOn ||
                                                     (options_.steering == SteeringMode::kAuto && too_few));
  std::string why = fmt::format("{} queue{}, {} worker{}", queues, queues == 1 ? "" : "s",
                                environment.worker_count, environment.worker_count == 1 ? "" : "s");
  if (report_.steered) {
    report_.spread = fmt::format("software steering by flow hash ({}{})", why,
                                 options_.steering == SteeringMode::kOn ? ", steering=on" : "");
  } else if (rss) {
    report_.spread = fmt::format("RSS over IP addresses and ports ({})", why);
  } else if (queues == 1) {
    report_.spread = fmt::format("none needed ({})", why);
  } else {
    report_.spread = fmt::format("by the device: each queue belongs to one worker ({})", why);
  }
  if (too_few && !report_.steered) {
    report_.warnings.push_back(
        fmt::format("steering=off with {} leaves workers without packets from this port", why));
  }
  if (transmit_.size() < environment.worker_count) {
    report_.notes.push_back(fmt::format("{} transmit queue{} for {} workers: shared under a lock",
                                        transmit_.size(), transmit_.size() == 1 ? "" : "s",
                                        environment.worker_count));
  }
}

void Port::look_at_interface(const PortEnvironment &environment) {
  std::string interface = options_.devices.front().argument("iface");
  if (interface.empty() || !options_.devices.front().driver.starts_with("net_af_")) return;
  InterfaceFacts facts = interface_facts(interface);
  if (!facts.addresses.empty()) {
    report_.warnings.push_back(fmt::format(
        "{} has {} addresses of its own ({}): they belong on {}, or packets are answered twice or not at all",
        interface, facts.addresses.size(), fmt::join(facts.addresses, ", "), options_.kernel_interface));
  }
  if (is_driver(report_.driver, "net_af_packet")) {
    report_.warnings.push_back(fmt::format(
        "the kernel sees every packet of {} too: with a VIP on that interface it answers for itself",
        interface));
    if (!facts.merging.empty()) {
      report_.warnings.push_back(fmt::format(
          "{} merges segments on receipt ({}), and what is longer than a frame buffer is cut off and dropped "
          "(ipv4_truncated): ethtool -K {} gro off lro off",
          interface, fmt::join(facts.merging, ", "), interface));
    }
  }
  if (is_driver(report_.driver, "net_af_xdp")) {
    if (facts.receive_queues > receive_.size()) {
      report_.warnings.push_back(fmt::format(
          "{} has {} receive queues and {} are used: packets of the others do not come here (queues={})",
          interface, facts.receive_queues, receive_.size(), facts.receive_queues));
    }
    if (environment.sleeps_when_idle) {
      report_.notes.emplace_back("busy_budget=0: workers sleep when idle, interrupts bring packets");
    }
  }
}

Status Port::plan_mtu() {
  rte_eth_dev_info info = {};
  uint16_t mtu = 0;
  rte_eth_dev_info_get(devices_.front().id, &info);
  rte_eth_dev_get_mtu(devices_.front().id, &mtu);
  uint16_t largest = largest_mtu(info);
  std::string interface = options_.devices.front().argument("iface");
  InterfaceFacts facts = interface.empty() ? InterfaceFacts() : interface_facts(interface);
  if (facts.exists && facts.mtu > 0) mtu = std::min(facts.mtu, largest);
  if (options_.mtu > 0) mtu = options_.mtu;
  if (mtu > largest) return Error{fmt::format("mtu: {}: the device takes at most {}", mtu, largest)};
  report_.mtu = mtu;
  return Done{};
}

bool Port::is_af_xdp() const { return is_driver(report_.driver, "net_af_xdp"); }

uint32_t Port::buffers_needed() const {
  // AF_XDP holds as many again in its fill and completion rings.
  uint32_t rings = is_af_xdp() ? 2 : 1;
  return rings * (report_.receive_descriptors * static_cast<uint32_t>(receive_.size()) +
                  report_.transmit_descriptors * static_cast<uint32_t>(transmit_.size()));
}

Status Port::start(rte_mempool *pool) {
  for (const Device &device : devices_) {
    Status configured = configure(device, pool);
    if (!configured.ok()) {
      return Error{fmt::format("port {}: {}", options_.name, configured.error().message)};
    }
  }
  return Done{};
}

Status Port::set_device_mtu(const Device &device, uint16_t mtu) {
  // A device that carries more than it says: its interface has the MTU already.
  if (mtu < report_.mtu) return Done{};
  int error = rte_eth_dev_set_mtu(device.id, mtu);
  if (error == -ENOTSUP) {
    if (device.id == devices_.front().id) report_.notes.emplace_back("the device does not enforce the MTU");
    return Done{};
  }
  if (error != 0) return device_error("mtu", std::to_string(mtu), "the device refused it", error);
  return Done{};
}

Status Port::configure(const Device &device, rte_mempool *pool) {
  char name[RTE_ETH_NAME_MAX_LEN] = {};
  rte_eth_dev_get_name_by_port(device.id, name);
  rte_eth_conf configuration = {};
  rte_eth_dev_info info = {};
  rte_eth_dev_info_get(device.id, &info);
  uint16_t device_mtu = std::min(report_.mtu, configurable_mtu(info));
  configuration.rxmode.mtu = device_mtu;
  configuration.txmode.offloads = device.transmit_offloads;
  if (device.rss_functions != 0) {
    configuration.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    configuration.rx_adv_conf.rss_conf.rss_hf = device.rss_functions;
  }
  int error = rte_eth_dev_configure(device.id, device.receive_queues, device.transmit_queues, &configuration);
  if (error != 0) {
    return device_error("device", name,
                        fmt::format("configuring {} receive and {} transmit queues, MTU {}",
                                    device.receive_queues, device.transmit_queues, device_mtu),
                        error);
  }
  Status mtu = set_device_mtu(device, device_mtu);
  if (!mtu.ok()) return mtu;
  int socket = rte_eth_dev_socket_id(device.id);
  auto socket_id = static_cast<unsigned>(socket);  // SOCKET_ID_ANY is -1 in either type
  for (uint16_t queue = 0; queue < device.receive_queues; queue++) {
    error = rte_eth_rx_queue_setup(device.id, queue, report_.receive_descriptors, socket_id, nullptr, pool);
    if (error != 0)
      return device_error("device", name, fmt::format("setting up receive queue {}", queue), error);
  }
  for (uint16_t queue = 0; queue < device.transmit_queues; queue++) {
    error = rte_eth_tx_queue_setup(device.id, queue, report_.transmit_descriptors, socket_id, nullptr);
    if (error != 0)
      return device_error("device", name, fmt::format("setting up transmit queue {}", queue), error);
  }
  error = rte_eth_dev_start(device.id);
  if (error != 0) return device_error("device", name, "starting it", error);
  // Neighbour discovery comes by multicast; a device that cannot choose takes it anyway.
  if (rte_eth_allmulticast_enable(device.id) != 0) spdlog::debug("{} takes all multicast as it is", name);
  return Done{};
}

std::vector<DeviceQueue> Port::receive_queues(uint16_t worker) const {
  std::vector<DeviceQueue> queues;
  for (size_t queue = worker; queue < receive_.size(); queue += worker_count_)
    queues.push_back(receive_[queue]);
  return queues;
}

TransmitQueue Port::transmit_queue(uint16_t worker) {
  size_t queue = worker % transmit_.size();
  bool shared = transmit_.size() < worker_count_;
  return {transmit_[queue], shared ? &locks_[queue] : nullptr};
}

}  // namespace sluice
