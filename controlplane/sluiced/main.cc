#include <variant>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "controlplane/sluiced/daemon.h"
#include "controlplane/sluiced/options.h"

int main(int argc, char **argv) {
  const std::variant<sluice::Options, int> parsed = sluice::parse_options(argc, argv);
  if (const int *exit_code = std::get_if<int>(&parsed)) return *exit_code;
  const auto &options = std::get<sluice::Options>(parsed);
  if (options.check_config.has_value()) return sluice::check_config_file(*options.check_config);
  spdlog::set_default_logger(spdlog::stderr_color_mt("sluiced"));
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  return sluice::run_daemon(options);
}
