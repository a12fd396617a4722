// sluice-dataplane: picks the engine and lets it run until it is told to stop.
#include <csignal>
#include <cstdlib>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>

#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/leftover_program.h"
#include "dataplane/dpdk/program.h"
#include "dataplane/engine_choice.h"
#include "dataplane/options.h"
#include "dataplane/server/unique_fd.h"
#include "dataplane/xdp/program.h"
#include "dataplane/xdp/release.h"

namespace sluice {
namespace {

/// A descriptor that becomes readable on SIGTERM or SIGINT. Before any thread is started: they inherit
/// that these signals are blocked.
UniqueFd stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

DpdkNeeds needs_of_dpdk(const DataplaneOptions &options) {
  DpdkNeeds needs;
  const Result<size_t> memory_mb = dpdk_memory_mb(options);
  if (!memory_mb.ok()) needs.refusal = memory_mb.error().message;
  if (memory_mb.ok()) needs.memory_mb = memory_mb.value();
  needs.free_huge_page_mb = free_huge_page_mb();
  return needs;
}

Status run(const DataplaneOptions &options) {
  if (options.task == Task::kDetach) return run_detach(options);
  UniqueFd stop = stop_signals();
  if (!stop.valid()) return Error{"signalfd failed"};
  Result<HostPossibilities> host = look_at_host(options.ports, needs_of_dpdk(options));
  if (!host.ok()) return host.error();
  const ChosenEngine chosen = choose_engine(options.engine, host.value());
  spdlog::info("engine {}: {}", chosen.engine == EngineChoice::kXdp ? "xdp" : "dpdk", chosen.reason);
  // Each engine takes away what the other one left.
  if (chosen.engine == EngineChoice::kXdp) return run_xdp(options, stop.get(), remove_leftover_program);
  PinnedEngine pinned(options.bpf_directory, options.connections);
  return run_dpdk(options, stop.get(),
                  {.stop = [&pinned] { return pinned.stop(); },
                   .resume = [&pinned] { pinned.resume(); },
                   .forget = [&pinned] { return pinned.forget(); }});
}

}  // namespace
}  // namespace sluice

int main(int argc, char **argv) {
  std::variant<sluice::DataplaneOptions, sluice::ProgramEnd> parsed = sluice::parse_options(argc, argv);
  if (const auto *end = std::get_if<sluice::ProgramEnd>(&parsed)) return end->exit_code;
  const auto &options = std::get<sluice::DataplaneOptions>(parsed);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sluice-dataplane"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %l: %v");
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  sluice::Status status = sluice::run(options);
  if (status.ok()) return EXIT_SUCCESS;
  spdlog::error("{}", status.error().message);
  return EXIT_FAILURE;
}
