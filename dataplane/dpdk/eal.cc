#include "dataplane/dpdk/eal.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string_view>

#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <xdp/libxdp.h>

namespace sluice {
namespace {

/// One write of rte_log is one message.
ssize_t write_log(void * /*cookie*/, const char *text, size_t size) {
  std::string_view message(text, size);
  while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
  if (message.empty()) return static_cast<ssize_t>(size);
  uint32_t level = static_cast<uint32_t>(rte_log_cur_msg_loglevel());
  if (level <= RTE_LOG_ERR) {
    spdlog::error("dpdk: {}", message);
  } else if (level == RTE_LOG_WARNING) {
    spdlog::warn("dpdk: {}", message);
  } else {
    spdlog::debug("dpdk: {}", message);
  }
  return static_cast<ssize_t>(size);
}

/// libbpf and libxdp, below DPDK's AF_XDP driver, try one way after another and report each as a failure.
template <typename Level>
int write_bpf_log(Level /*level*/, const char *format, va_list arguments) {
  char message[512];
  vsnprintf(message, sizeof(message), format, arguments);
  std::string_view text(message);
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  spdlog::debug("{}", text);
  return 0;
}

/// Sends the libraries' logs to spdlog. Before rte_eal_init, so that nothing goes to the terminal directly.
void route_log() {
  libbpf_set_print(write_bpf_log<libbpf_print_level>);
  libxdp_set_print(write_bpf_log<libxdp_print_level>);
  cookie_io_functions_t functions = {};
  functions.write = write_log;
  FILE *stream = fopencookie(nullptr, "w", functions);
  if (stream == nullptr) return;
  setvbuf(stream, nullptr, _IOLBF, BUFSIZ);
  rte_openlog_stream(stream);
}

std::string core_set(const std::vector<int> &cores) { return fmt::format("({})", fmt::join(cores, ",")); }

std::string lcore_map(const EalOptions &options) {
  std::string map = "0@" + core_set(options.main_cores);
  for (size_t worker = 0; worker < options.worker_cores.size(); worker++) {
    map += fmt::format(",{}@{}", worker + 1, options.worker_cores[worker]);
  }
  return map;
}

std::vector<std::string> eal_arguments(const EalOptions &options, bool huge_pages) {
  std::string prefix = options.file_prefix.empty() ? fmt::format("sluice-{}", getpid()) : options.file_prefix;
  std::vector<std::string> arguments = {
      "sluice-dataplane", "--lcores", lcore_map(options), "--main-lcore", "0",
      "--file-prefix",    prefix,     "--no-telemetry"};
  if (huge_pages) {
    // No hugetlbfs mount is needed; memif's zero copy shares whole segments by one descriptor.
    arguments.insert(arguments.end(), {"--in-memory", "--single-file-segments"});
  } else {
    // --in-memory does not go together with --no-huge.
    arguments.insert(arguments.end(), {"--no-huge", "--no-shconf", "-m", std::to_string(options.memory_mb)});
  }
  if (options.pci.empty()) {
    // Nothing reads memory by its physical address, so no pool needs huge pages that are neighbours there.
    arguments.insert(arguments.end(), {"--no-pci", "--iova-mode", "va"});
  } else {
    for (const std::string &address : options.pci) arguments.insert(arguments.end(), {"-a", address});
  }
  return arguments;
}

}  // namespace

size_t free_huge_page_mb() {
  size_t free_kb = 0;
  std::error_code ignored;
  constexpr std::string_view kPrefix = "hugepages-";
  for (const auto &entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", ignored)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    size_t page_kb = strtoull(name.c_str() + kPrefix.size(), nullptr, 10);
    size_t pages = 0;
    std::ifstream(entry.path() / "free_hugepages") >> pages;
    free_kb += page_kb * pages;
  }
  return free_kb / 1024;
}

std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; core++) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

Result<CorePlan> plan_cores(size_t workers, const std::vector<int> &wanted, const std::vector<int> &allowed) {
  for (int core : wanted) {
    if (std::find(allowed.begin(), allowed.end(), core) == allowed.end()) {
      return Error{fmt::format("--cores: this process may not run on core {}; it may on {}", core,
                               fmt::join(allowed, ","))};
    }
  }
  const std::vector<int> &from = wanted.empty() ? allowed : wanted;
  if (workers > from.size()) {
    return Error{fmt::format("--workers: {} workers need a core each, but there are {} ({})", workers,
                             from.size(), fmt::join(from, ","))};
  }
  CorePlan plan;
  if (wanted.empty()) {
    plan.worker_cores.assign(from.end() - static_cast<ptrdiff_t>(workers), from.end());
  } else {
    plan.worker_cores.assign(from.begin(), from.begin() + static_cast<ptrdiff_t>(workers));
  }
  for (int core : allowed) {
    if (std::find(plan.worker_cores.begin(), plan.worker_cores.end(), core) == plan.worker_cores.end()) {
      plan.main_cores.push_back(core);
    }
  }
  bool shares = plan.main_cores.empty();
  if (shares) plan.main_cores = allowed;
  plan.explanation = fmt::format("workers on cores {}, server on {}{}", fmt::join(plan.worker_cores, ","),
                                 fmt::join(plan.main_cores, ","),
                                 shares ? " (shared: every allowed core has a worker)" : "");
  return plan;
}

Result<std::unique_ptr<Eal>> Eal::start(const EalOptions &options) {
  std::unique_ptr<Eal> eal(new Eal());
  size_t free_mb = free_huge_page_mb();
  if (options.huge_pages == HugePages::kOn && free_mb < options.memory_mb) {
    return Error{
        fmt::format("--huge-pages on: {} MB are free and about {} MB are needed; reserve some "
                    "(sysctl vm.nr_hugepages={}) or use --huge-pages off",
                    free_mb, options.memory_mb, options.memory_mb / 2 + 1)};
  }
  eal->huge_pages_ = options.huge_pages != HugePages::kOff && free_mb >= options.memory_mb;
  if (eal->huge_pages_) {
    eal->memory_explanation_ =
        fmt::format("huge pages: {} MB are free, about {} MB are needed", free_mb, options.memory_mb);
  } else if (options.huge_pages == HugePages::kOff) {
    eal->memory_explanation_ =
        fmt::format("no huge pages: --huge-pages off, {} MB of small ones", options.memory_mb);
  } else {
    eal->memory_explanation_ = fmt::format(
        "no huge pages: only {} MB are free and about {} MB are needed, so small pages are used; "
        "at millions of connections that costs 4 to 8% (sysctl vm.nr_hugepages={} avoids it)",
        free_mb, options.memory_mb, options.memory_mb / 2 + 1);
    spdlog::warn("{}", eal->memory_explanation_);
  }

  route_log();
  std::vector<std::string> arguments = eal_arguments(options, eal->huge_pages_);
  std::vector<char *> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string &argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  spdlog::debug("EAL: {}", fmt::join(arguments, " "));
  if (rte_eal_init(static_cast<int>(arguments.size()), argv.data()) < 0) {
    return Error{fmt::format("EAL: DPDK did not start: {} (arguments: {})", rte_strerror(rte_errno),
                             fmt::join(arguments, " "))};
  }
  // Nothing is shared with other processes, and a directory per process would outlive it.
  std::error_code ignored;
  std::filesystem::remove_all(rte_eal_get_runtime_dir(), ignored);
  return eal;
}

Eal::~Eal() { rte_eal_cleanup(); }

}  // namespace sluice
