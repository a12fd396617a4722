#include "dataplane/server/port_options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>

namespace sluice {
namespace {

constexpr int kMaxCore = 1023;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Error bad(std::string_view field, std::string_view value, std::string_view allowed) {
  return Error{fmt::format("{}: \"{}\" is not valid; {}", field, value, allowed)};
}

Result<uint16_t> parse_bounded(std::string_view field, std::string_view value, uint32_t least,
                               uint32_t most) {
  std::optional<uint32_t> number = parse_number(value);
  if (!number || *number < least || *number > most) {
    return bad(field, value, fmt::format("give a number from {} to {}", least, most));
  }
  return static_cast<uint16_t>(*number);
}

Result<std::string> parse_name(std::string_view value) {
  bool good = !value.empty() && value.size() <= 32 && std::all_of(value.begin(), value.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  });
  if (!good) return bad("name", value, "give 1 to 32 letters, digits, '-' or '_'");
  return std::string(value);
}

Result<std::string> parse_interface_name(std::string_view field, std::string_view value) {
  bool good = !value.empty() && value.size() < IFNAMSIZ && value != "." && value != ".." &&
              value.find_first_of("/: \t") == std::string_view::npos;
  if (!good) {
    return bad(field, value,
               fmt::format("an interface's name has 1 to {} characters, no '/', ':' or space", IFNAMSIZ - 1));
  }
  return std::string(value);
}

Result<InterfaceAddress> parse_interface_address(std::string_view value) {
  constexpr std::string_view kAllowed = "give ADDRESS/PREFIX-LENGTH, such as 192.0.2.1/24 or 2001:db8::1/64";
  InterfaceAddress parsed;
  parsed.text = value;
  size_t slash = value.find('/');
  if (slash == std::string_view::npos) return bad("addresses", value, kAllowed);
  std::string address(value.substr(0, slash));
  std::optional<uint32_t> prefix_length = parse_number(value.substr(slash + 1));
  be32 ipv4 = 0;
  uint32_t longest = 0;
  if (inet_pton(AF_INET, address.c_str(), &ipv4) == 1) {
    parsed.address = address_from_ipv4(ipv4);
    longest = 32;
  } else if (inet_pton(AF_INET6, address.c_str(), &parsed.address) == 1) {
    longest = 128;
  } else {
    return bad("addresses", value, kAllowed);
  }
  if (!prefix_length || *prefix_length > longest) return bad("addresses", value, kAllowed);
  parsed.prefix_length = static_cast<uint8_t>(*prefix_length);
  return parsed;
}

/// [dddd:]bb:dd.f, in hexadecimal; the function is at most 7.
bool is_pci_address(std::string_view text) {
  constexpr std::string_view kShape = "xxxx:xx:xx.7";
  constexpr size_t kDomainSize = 5;
  std::string_view shape = kShape;
  if (text.size() == kShape.size() - kDomainSize) shape.remove_prefix(kDomainSize);
  if (text.size() != shape.size()) return false;
  for (size_t i = 0; i < text.size(); i++) {
    bool digit = std::isxdigit(static_cast<unsigned char>(text[i])) != 0;
    bool fits = shape[i] == 'x'   ? digit
                : shape[i] == '7' ? text[i] >= '0' && text[i] <= '7'
                                  : text[i] == shape[i];
    if (!fits) return false;
  }
  return true;
}

Result<DeviceOptions> parse_device(std::string_view value) {
  DeviceOptions device;
  // A PCI address has colons of its own: its arguments follow a semicolon.
  size_t first = std::min(value.find(';'), value.size());
  std::string_view rest;
  if (is_pci_address(value.substr(0, first))) {
    device.driver = value.substr(0, first);
    if (device.driver.size() == strlen("01:00.0")) device.driver.insert(0, "0000:");
    rest = first < value.size() ? value.substr(first + 1) : "";
  } else {
    size_t colon = std::min(value.find(':'), value.size());
    device.driver = value.substr(0, colon);
    rest = colon < value.size() ? value.substr(colon + 1) : "";
    bool good = !device.driver.empty() && device.driver.find_first_of("=; ") == std::string::npos;
    if (!good) {
      return bad("device", value,
                 "give a PCI address (0000:01:00.0) or a driver with arguments (net_af_xdp:iface=eth0)");
    }
  }
  if (rest.empty()) return device;
  for (std::string_view argument : split(rest, ';')) {
    size_t equals = argument.find('=');
    if (equals == 0 || equals == std::string_view::npos) {
      return bad("device", value, fmt::format("argument \"{}\" has no '='", argument));
    }
    device.arguments.emplace_back(argument.substr(0, equals), argument.substr(equals + 1));
  }
  return device;
}

Result<SteeringMode> parse_steering(std::string_view value) {
  if (value == "auto") return SteeringMode::kAuto;
  if (value == "on") return SteeringMode::kOn;
  if (value == "off") return SteeringMode::kOff;
  return bad("steering", value, "give auto, on or off");
}

/// Moves a parsed value to where it belongs, or hands the error on.
template <typename T>
Status store(Result<T> parsed, T *destination) {
  if (!parsed.ok()) return parsed.error();
  *destination = std::move(parsed).value();
  return Done{};
}

Status parse_addresses(std::string_view value, PortOptions *port) {
  for (std::string_view part : split(value, ';')) {
    Result<InterfaceAddress> address = parse_interface_address(part);
    if (!address.ok()) return address.error();
    port->addresses.push_back(std::move(address).value());
  }
  return Done{};
}

Status parse_field(std::string_view key, std::string_view value, PortOptions *port) {
  if (key == "name") return store(parse_name(value), &port->name);
  if (key == "queues") return store(parse_bounded(key, value, 1, 64), &port->queues);
  if (key == "descriptors") return store(parse_bounded(key, value, 64, 32768), &port->descriptors);
  if (key == "mtu") return store(parse_bounded(key, value, 576, 9600), &port->mtu);
  if (key == "steering") return store(parse_steering(value), &port->steering);
  if (key == "kernel") return store(parse_interface_name(key, value), &port->kernel_interface);
  if (key == "interface") return store(parse_interface_name(key, value), &port->interface);
  if (key == "addresses") return parse_addresses(value, port);
  if (key == "device") {
    Result<DeviceOptions> device = parse_device(value);
    if (!device.ok()) return device.error();
    port->devices.push_back(std::move(device).value());
    return Done{};
  }
  return Error{
      fmt::format("{}: there is no such field; the fields are name, interface, device, queues, "
                  "descriptors, addresses, kernel, mtu and steering",
                  key)};
}

/// What one field cannot know of the others.
Status complete(PortOptions *port) {
  if (port->name.empty()) return Error{"name: is missing; give name=NAME"};
  if (!port->interface.empty() && !port->devices.empty())
    return Error{"interface: is given beside device=; give one of them"};
  if (!port->interface.empty())
    port->devices.push_back({.driver = "net_af_xdp", .arguments = {{"iface", port->interface}}});
  if (port->devices.empty())
    return Error{"interface: is missing; give interface=NAME, device=DRIVER:ARGUMENTS or device=PCI-ADDRESS"};
  if (port->kernel_interface.empty()) {
    Result<std::string> name = parse_interface_name("kernel", "sl-" + port->name);
    if (!name.ok()) return Error{name.error().message + "; give a shorter one with kernel=NAME"};
    port->kernel_interface = name.value();
  } else if (port->kernel_interface == "none") {
    port->kernel_interface.clear();
    if (!port->addresses.empty()) {
      return Error{"addresses: there is no interface to give them to, because kernel=none"};
    }
  }
  return Done{};
}

Status check_differ(const std::vector<PortOptions> &ports) {
  std::set<std::string> names;
  std::set<std::string> interfaces;
  std::set<std::string> devices;
  std::set<std::string> taken;
  for (const PortOptions &port : ports) {
    if (!names.insert(port.name).second) {
      return Error{fmt::format("--port: name: \"{}\" is given to two ports", port.name)};
    }
    if (!port.kernel_interface.empty() && !interfaces.insert(port.kernel_interface).second) {
      return Error{fmt::format("--port: kernel: \"{}\" is given to two ports", port.kernel_interface)};
    }
    for (const DeviceOptions &device : port.devices) {
      if (device.is_pci() && !devices.insert(device.driver).second) {
        return Error{fmt::format("--port: device: \"{}\" is used twice", device.driver)};
      }
    }
    if (!port.interface.empty() && !taken.insert(port.interface).second) {
      return Error{fmt::format("--port: interface: \"{}\" is used twice", port.interface)};
    }
  }
  return Done{};
}

}  // namespace

bool DeviceOptions::is_pci() const { return is_pci_address(driver); }

std::string DeviceOptions::argument(std::string_view key) const {
  for (const auto &[name, value] : arguments) {
    if (name == key) return value;
  }
  return "";
}

std::string DeviceOptions::argument_text() const {
  std::string text;
  for (const auto &[name, value] : arguments) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, value);
  }
  return text;
}

Result<std::string> xdp_interface(const PortOptions &port, const std::string &pci_devices) {
  if (!port.interface.empty()) return port.interface;
  std::set<std::string> found;
  for (const DeviceOptions &device : port.devices) {
    const bool on_interface =
        device.driver.starts_with("net_af_xdp") || device.driver.starts_with("net_af_packet");
    std::string interface = device.is_pci() ? interface_of_pci(device.driver, pci_devices) : "";
    if (on_interface) interface = device.argument("iface");
    if (interface.empty())
      return Error{fmt::format("port {}: device: \"{}\" {}; give interface=NAME", port.name, device.driver,
                               device.is_pci() ? "has no network interface of the kernel's"
                               : on_interface  ? "has no iface= argument"
                                               : "is a device of DPDK's only")};
    found.insert(std::move(interface));
  }
  if (found.size() == 1) return *found.begin();
  return Error{fmt::format("port {}: device: the XDP engine takes one interface for a port, not {}",
                           port.name, fmt::join(found, " and "))};
}

size_t known_queues(const PortOptions &port) {
  size_t queues = 0;
  for (const DeviceOptions &device : port.devices) {
    bool af_xdp = device.driver.starts_with("net_af_xdp");
    size_t of_device = port.queues;
    if (af_xdp && !device.argument("start_queue").empty()) {
      of_device = 1;
    } else if (af_xdp && of_device == 0) {
      of_device = interface_facts(device.argument("iface")).receive_queues;
    }
    queues += std::max<size_t>(1, of_device);
  }
  return queues;
}

Result<PortOptions> parse_port_options(std::string_view text) {
  PortOptions port;
  std::set<std::string, std::less<>> seen;
  Status status = Done{};
  for (std::string_view field : split(text, ',')) {
    size_t equals = field.find('=');
    std::string_view key = field.substr(0, equals);
    if (equals == std::string_view::npos || key.empty()) {
      status = Error{fmt::format("\"{}\": is no field; fields are KEY=VALUE, separated by commas", field)};
    } else if (!seen.emplace(key).second && key != "device") {
      status = Error{fmt::format("{}: is given twice", key)};
    } else {
      status = parse_field(key, field.substr(equals + 1), &port);
    }
    if (!status.ok()) break;
  }
  if (status.ok()) status = complete(&port);
  if (!status.ok()) return Error{fmt::format("--port \"{}\": {}", text, status.error().message)};
  return port;
}

Result<std::vector<PortOptions>> parse_ports(const std::vector<std::string> &texts) {
  if (texts.empty()) {
    return Error{"--port: there is none; give at least one, such as --port name=front,device=0000:01:00.0"};
  }
  std::vector<PortOptions> ports;
  for (const std::string &text : texts) {
    Result<PortOptions> port = parse_port_options(text);
    if (!port.ok()) return port.error();
    ports.push_back(std::move(port).value());
  }
  Status differ = check_differ(ports);
  if (!differ.ok()) return differ.error();
  return ports;
}

Result<std::vector<int>> parse_core_list(std::string_view text) {
  std::vector<int> cores;
  for (std::string_view part : split(text, ',')) {
    size_t dash = part.find('-');
    std::optional<uint32_t> first = parse_number(part.substr(0, dash));
    std::optional<uint32_t> last =
        dash == std::string_view::npos ? first : parse_number(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last > kMaxCore) {
      return Error{fmt::format(
          "--cores: \"{}\" in \"{}\" is not valid; give numbers and ranges, such as 1,3-5", part, text)};
    }
    for (uint32_t core = *first; core <= *last; core++) {
      if (std::find(cores.begin(), cores.end(), static_cast<int>(core)) != cores.end()) {
        return Error{fmt::format("--cores: core {} is twice in \"{}\"", core, text)};
      }
      cores.push_back(static_cast<int>(core));
    }
  }
  return cores;
}

}  // namespace sluice
