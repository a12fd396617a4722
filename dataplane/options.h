// sluice-dataplane's command line and configuration file.
#ifndef SLUICE_DATAPLANE_OPTIONS_H
#define SLUICE_DATAPLANE_OPTIONS_H

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace sluice {

enum class EngineChoice { kAuto, kDpdk, kXdp };
enum class IdleChoice { kPoll, kSleep };
enum class HugePagesChoice { kAuto, kOn, kOff };
enum class KernelInterfacesChoice { kKeep, kRemove };
enum class XdpModeOption { kAuto, kNative, kGeneric };
enum class XdpSharing { kAuto, kOn, kOff };  // of interfaces, by libxdp's dispatcher
enum class XdpAtStop { kForward, kDetach };
enum class Task { kForward, kDetach };  // kDetach: only take away what an XDP engine left, and end

/// As given, before any of it is looked at closely: ports and cores are texts that engines parse.
struct DataplaneOptions {
  Task task = Task::kForward;
  EngineChoice engine = EngineChoice::kAuto;
  std::vector<std::string> ports;
  uint16_t workers = 0;  // 0: as the ports' queues ask for
  std::string cores;
  IdleChoice idle = IdleChoice::kPoll;
  HugePagesChoice huge_pages = HugePagesChoice::kAuto;
  KernelInterfacesChoice kernel_interfaces = KernelInterfacesChoice::kKeep;
  XdpModeOption xdp_mode = XdpModeOption::kAuto;
  XdpSharing xdp_sharing = XdpSharing::kAuto;
  XdpAtStop xdp_at_stop = XdpAtStop::kForward;
  uint64_t ipv4_connections = 1 << 20;  // per worker
  uint64_t ipv6_connections = 1 << 18;  // per worker
  std::string control_socket;
  std::string control_group;  // whose members may use the control socket
  std::string snapshot;       // file
  std::string connections;    // file
  std::string bpf_directory;  // of the XDP engine's pins
  std::string log_level = "info";
};

/// The command line asked for something that ends the program: help, version, or an error.
struct ProgramEnd {
  int exit_code = 0;
};

/// Parses the command line, and the file that --config names (/etc/sluice/dataplane.conf when it is
/// there): the same long names, `key = "value"`, the command line winning. Prints help and errors.
std::variant<DataplaneOptions, ProgramEnd> parse_options(int argc, const char *const *argv);

}  // namespace sluice

#endif
