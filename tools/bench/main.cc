// sluice-bench: what a packet costs. See README.md in this folder for how to read it.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>
#include <sched.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "dataplane/dpdk/eal.h"
#include "tools/bench/benches.h"

namespace {

using sluice::bench::BenchOptions;
using sluice::bench::Report;

struct Arguments {
  std::string json_path;
  std::vector<std::string> only;
  std::string engine = "dpdk";
  int core = sluice::allowed_cores().back();  // interrupts and daemons tend to the first
  BenchOptions options;
};

void declare(CLI::App *app, Arguments *arguments) {
  app->add_option("--json", arguments->json_path,
                  "Write the results as JSON to this file; - is standard output");
  app->add_option("--only", arguments->only,
                  "Run only these: worker, stages (of --engine dpdk), xdp (of --engine xdp), maglev, "
                  "balance, health, passive")
      ->check(CLI::IsMember({"worker", "stages", "xdp", "maglev", "balance", "health", "passive"}));
  app->add_option("--engine", arguments->engine,
                  "Engine of the packet benches; both, one after the other, if all")
      ->check(CLI::IsMember({"dpdk", "xdp", "all"}))
      ->capture_default_str();
  app->add_option("--flows", arguments->options.flows, "Connection counts of the packet benches")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 26))
      ->capture_default_str();
  app->add_option("--connections", arguments->options.connections,
                  "Connections that the XDP bench's table is sized for; more flows make it larger")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 26))
      ->capture_default_str();
  app->add_option("--rounds", arguments->options.rounds, "Interleaved rounds; medians are reported")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app->add_option("--core", arguments->core, "CPU to run on")->capture_default_str();
  app->add_option("--seed", arguments->options.seed, "Seed of everything that is random")
      ->capture_default_str();
  app->add_flag_callback(
      "--quick",
      [arguments] {
        arguments->options.depth = sluice::bench::Depth::kQuick;
        arguments->options.rounds = 5;
      },
      "Few packets and rounds: to see that it runs, not what it costs");
  app->footer(
      "Examples:\n  sluice-bench\n  sluice-bench --only worker --flows 10000 1000000 --json result.json");
}

/// Whether a bench was asked for; `engine` is that of a packet bench, or empty.
bool chosen(const Arguments &arguments, const std::string &name, const std::string &engine = "") {
  if (!engine.empty() && arguments.engine != "all" && arguments.engine != engine) return false;
  if (arguments.only.empty()) return true;
  return std::find(arguments.only.begin(), arguments.only.end(), name) != arguments.only.end();
}

void run_dpdk_benches(const Arguments &arguments, Report *report) {
  auto eal = sluice::Eal::start({.worker_cores = {arguments.core}, .main_cores = {arguments.core}});
  if (!eal.ok()) throw std::runtime_error(eal.error().message);
  if (chosen(arguments, "worker", "dpdk")) sluice::bench::bench_worker(arguments.options, report);
  if (chosen(arguments, "stages", "dpdk")) sluice::bench::bench_stages(arguments.options, report);
}

void run(Arguments *arguments) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(arguments->core, &cores);
  if (sched_setaffinity(0, sizeof(cores), &cores) != 0)
    throw std::runtime_error("--core " + std::to_string(arguments->core) + ": cannot be used");
  arguments->options.core = static_cast<uint32_t>(arguments->core);
  arguments->options.tsc_hz = sluice::bench::tsc_hz();
  const bool quiet = arguments->json_path == "-";
  Report report(quiet ? Report::Audience::kMachine : Report::Audience::kPeople);
  if (chosen(*arguments, "worker", "dpdk") || chosen(*arguments, "stages", "dpdk"))
    run_dpdk_benches(*arguments, &report);
  if (chosen(*arguments, "xdp", "xdp")) sluice::bench::bench_xdp(arguments->options, &report);
  if (chosen(*arguments, "maglev")) sluice::bench::bench_maglev(arguments->options, &report);
  if (chosen(*arguments, "balance")) sluice::bench::bench_balance(arguments->options, &report);
  if (chosen(*arguments, "health")) sluice::bench::bench_health(arguments->options, &report);
  if (chosen(*arguments, "passive")) sluice::bench::bench_passive(arguments->options, &report);
  const nlohmann::json document = {{"tsc_hz", arguments->options.tsc_hz},
                                   {"rounds", arguments->options.rounds},
                                   {"results", report.results()}};
  if (quiet) std::cout << document.dump(2) << "\n";
  if (quiet || arguments->json_path.empty()) return;
  std::ofstream file(arguments->json_path);
  file << document.dump(2) << "\n";
  if (!file.flush()) throw std::runtime_error("--json " + arguments->json_path + ": cannot be written");
}

}  // namespace

int main(int argc, char **argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sluice-bench"));  // results may go to standard output
  Arguments arguments;
  arguments.options.flows = {1, 10'000, 100'000, 1'000'000, 8'000'000};
  CLI::App app("Measures what Sluice costs per packet, as multiples of a floor in the same run.",
               "sluice-bench");
  declare(&app, &arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    run(&arguments);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "sluice-bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
