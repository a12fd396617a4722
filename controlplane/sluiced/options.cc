#include "controlplane/sluiced/options.h"

#include <vector>

#include <CLI/CLI.hpp>

namespace sluice {

std::variant<Options, int> parse_options(int argc, const char *const *argv) {
  Options options;
  std::string check_config;
  CLI::App app{
      "sluiced, the control plane of Sluice: reads the configuration, checks the backends' health, and\n"
      "publishes what follows to sluice-dataplane. Forwarding goes on while it is stopped.\n"
      "SIGHUP reloads the configuration, SIGTERM ends it."};
  app.set_version_flag("--version", "sluiced " SLUICE_VERSION);
  app.add_option("-c,--config", options.config, "configuration file")->capture_default_str();
  app.add_option("--dataplane-socket", options.dataplane_socket, "control socket of sluice-dataplane")
      ->capture_default_str();
  app.add_option("--api-socket", options.api_socket, "where the REST API listens (mode 0660)")
      ->capture_default_str();
  app.add_option("--state-dir", options.state_dir, "what sluiced keeps between starts")
      ->capture_default_str();
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--check-config", check_config,
                 "check this file, print every error, and exit: 0 when it is valid, 5 when it is not");
  app.footer("Exit codes: 0 ended as asked, 1 failure, 2 wrong usage, 5 invalid configuration.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (!check_config.empty()) options.check_config = check_config;
  return options;
}

}  // namespace sluice
