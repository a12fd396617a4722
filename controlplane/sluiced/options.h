// sluiced's command line.
#ifndef SLUICE_CONTROLPLANE_SLUICED_OPTIONS_H
#define SLUICE_CONTROLPLANE_SLUICED_OPTIONS_H

#include <filesystem>
#include <optional>
#include <string>
#include <variant>

namespace sluice {

/// What sluiced exits with.
enum ExitCode {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitInvalidConfig = 5,
};

struct Options {
  std::filesystem::path config = "/etc/sluice/sluice.yaml";
  std::filesystem::path dataplane_socket = "/run/sluice/dataplane.sock";
  std::filesystem::path api_socket = "/run/sluice/sluiced.sock";
  std::filesystem::path state_dir = "/var/lib/sluice/sluiced";
  std::string log_level = "info";
  std::optional<std::filesystem::path> check_config;  // check this file and exit
};

/// The options, or the code to exit with (help, version and errors are printed already).
std::variant<Options, int> parse_options(int argc, const char *const *argv);

}  // namespace sluice

#endif
