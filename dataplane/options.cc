#include "dataplane/options.h"

#include <map>

#include <CLI/CLI.hpp>

#include "dataplane/abi/connection.h"
#include "dataplane/abi/control_protocol.h"

namespace sluice {
namespace {

constexpr const char *kConfigPath = "/etc/sluice/dataplane.conf";
constexpr int kExitUsage = 2;

constexpr const char *kPortHelp =
    R"(a port, as KEY=VALUE,...; give one --port for each:
  name=NAME                  required
  interface=NAME             a network interface, for either engine (DPDK: net_af_xdp on it)
  device=DRIVER[:ARG=VALUE;...]  instead: a PCI address (0000:01:00.0) or a virtual device
                             (net_af_xdp:iface=eth0); several make one DPDK port of several devices
  addresses=A/L[;A/L...]     of the port's interface in the kernel (DPDK: its tap)
  kernel=NAME|none           DPDK: the tap's name (default sl-<port name>)
  mtu=N; DPDK: queues=N, descriptors=N, steering=auto|on|off)";

template <typename Choice>
CLI::Option *add_choice(CLI::App *app, const std::string &name, Choice *choice,
                        const std::map<std::string, Choice> &names, const std::string &help) {
  std::string listed;
  for (const auto &[text, value] : names) {
    listed += (listed.empty() ? "" : "|") + text;
    if (value == *choice) listed += "*";
  }
  return app->add_option(name, *choice, help + " (* is the default)")
      ->transform(CLI::CheckedTransformer(names))
      ->type_name(listed);
}

void add_forwarding_options(CLI::App *app, DataplaneOptions *options) {
  add_choice(app, "--engine", &options->engine,
             {{"auto", EngineChoice::kAuto}, {"dpdk", EngineChoice::kDpdk}, {"xdp", EngineChoice::kXdp}},
             "what moves packets; auto: dpdk if every port can be a DPDK port without harm, else xdp");
  // Only one value each, so that a value never swallows what follows it.
  app->add_option("--port", options->ports, kPortHelp)->allow_extra_args(false)->type_name("FIELDS");
  app->add_option(
         "--workers", options->workers,
         "workers, one core each (default: as many as the port with most queues has, by queues=N or, "
         "of net_af_xdp, its interface; at most one for each of --cores, or for all cores but one)")
      ->check(CLI::Range(1, static_cast<int>(kMaxConnectionTables)));
  app->add_option("--cores", options->cores, "cores for the workers, such as 2,4-7 (default: the last ones)");
  add_choice(app, "--idle", &options->idle, {{"poll", IdleChoice::kPoll}, {"sleep", IdleChoice::kSleep}},
             "what a worker without packets does");
  add_choice(app, "--huge-pages", &options->huge_pages,
             {{"auto", HugePagesChoice::kAuto}, {"on", HugePagesChoice::kOn}, {"off", HugePagesChoice::kOff}},
             "memory for packets");
  app->add_flag_callback(
      "--remove-kernel-interfaces",
      [options] { options->kernel_interfaces = KernelInterfacesChoice::kRemove; },
      "remove the ports' interfaces in the kernel on a clean stop (default: keep them, with their routes)");
  add_choice(
      app, "--xdp-mode", &options->xdp_mode,
      {{"auto", XdpModeOption::kAuto},
       {"native", XdpModeOption::kNative},
       {"generic", XdpModeOption::kGeneric}},
      "who runs the XDP program: the driver, or the kernel's stack for any driver; auto: the driver if it "
      "can");
  add_choice(
      app, "--xdp-sharing", &options->xdp_sharing,
      {{"auto", XdpSharing::kAuto}, {"on", XdpSharing::kOn}, {"off", XdpSharing::kOff}},
      "interfaces with other XDP programs, through libxdp's dispatcher; auto: where one is; on: always, so "
      "that others can be added later");
  app->add_flag_callback(
      "--detach-at-stop", [options] { options->xdp_at_stop = XdpAtStop::kDetach; },
      "XDP: end forwarding on a clean stop (default: it goes on without this program)");
  app->add_flag_callback(
      "--detach", [options] { options->task = Task::kDetach; },
      "end the forwarding that an XDP engine left when it stopped, keep its connections in the file, and "
      "end");
  constexpr uint64_t kMost = uint64_t{1} << 30;
  app->add_option("--ipv4-connections", options->ipv4_connections, "table size per worker")
      ->check(CLI::Range(uint64_t{1024}, kMost))
      ->capture_default_str();
  app->add_option("--ipv6-connections", options->ipv6_connections, "table size per worker")
      ->check(CLI::Range(uint64_t{1024}, kMost))
      ->capture_default_str();
}

void add_file_options(CLI::App *app, DataplaneOptions *options) {
  options->control_socket = SLUICE_CONTROL_SOCKET_PATH;
  options->snapshot = "/var/lib/sluice/dataplane/snapshot";
  options->connections = "/run/sluice/connections";
  options->bpf_directory = "/sys/fs/bpf/sluice";
  app->add_option("--control-socket", options->control_socket, "where sluiced connects")
      ->capture_default_str();
  app->add_option("--control-group", options->control_group, "group whose members may connect");
  app->add_option("--snapshot", options->snapshot, "file that keeps the last snapshot")
      ->capture_default_str();
  app->add_option("--connections", options->connections,
                  "file on tmpfs that keeps connections over a restart")
      ->capture_default_str();
  app->add_option("--bpf-directory", options->bpf_directory,
                  "directory on a bpffs by which XDP forwarding outlives this program")
      ->check([](const std::string &value) {
        return value.starts_with('/') && !value.ends_with('/')
                   ? std::string()
                   : "\"" + value + "\" is no absolute path, or ends with '/'";
      })
      ->capture_default_str();
  app->add_option("--log-level", options->log_level)
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
}

}  // namespace

std::variant<DataplaneOptions, ProgramEnd> parse_options(int argc, const char *const *argv) {
  DataplaneOptions options;
  CLI::App app{"Sluice's dataplane: forwards packets to backends as its last snapshot says.",
               "sluice-dataplane"};
  app.set_version_flag("--version", SLUICE_VERSION);
  app.set_config("--config", kConfigPath, "file with any of these options, as key = \"value\"");
  app.allow_config_extras(false);
  app.failure_message(CLI::FailureMessage::simple);
  app.footer(
      "Examples:\n"
      "  sluice-dataplane --port name=front,device=0000:01:00.0,queues=4,addresses=10.77.0.2/24 --workers 4\n"
      "  sluice-dataplane --port 'name=front,device=net_af_xdp:iface=eth1,addresses=10.77.0.2/24;fd00::2/64' "
      "--idle sleep\n"
      "  sluice-dataplane --engine xdp --port name=front,interface=eth1,addresses=10.77.0.2/24\n"
      "Exit codes: 0 ended as asked, 1 failure, 2 wrong usage.");
  add_forwarding_options(&app, &options);
  add_file_options(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return ProgramEnd{app.exit(error) == 0 ? EXIT_SUCCESS : kExitUsage};
  }
  return options;
}

}  // namespace sluice
