// Health checks: what ten thousand backends, each checked once a second, cost on one core. In a network
// namespace of its own, every backend an address of loopback (127.0.0.0/8), answered by a child process on
// the other cores.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controlplane/health/monitor.h"
#include "tools/bench/benches.h"

namespace sluice::bench {

namespace {

constexpr uint16_t kPort = 8080;
constexpr uint16_t kSilentPort = 8081;  // accepts, and never answers
constexpr uint32_t kQuickBackends = 500;
constexpr uint32_t kFullBackends = 10'000;
constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error(what + ": " + std::generic_category().message(errno));
}

void enter_own_namespace() {
  if (unshare(CLONE_NEWNET) != 0) fail("a network namespace (needs root)");
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP | IFF_RUNNING;
  const int up = ioctl(control, SIOCSIFFLAGS, &loopback);
  close(control);
  if (up != 0) fail("lo");
}

int listen_everywhere(uint16_t l4_port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(l4_port);
  constexpr int kBacklog = 4096;
  const auto *any = reinterpret_cast<const sockaddr *>(&address);
  if (listener < 0 || bind(listener, any, sizeof(address)) != 0 || listen(listener, kBacklog) != 0)
    fail("listen");
  return listener;
}

enum class Manner : uint8_t { kAnswers, kIsSilent };

// Answers whatever is sent, or does not, and closes when the peer does.
void serve(int connection, Manner manner) {
  std::array<char, 4096> request{};
  const ssize_t got = recv(connection, request.data(), request.size(), 0);
  if (got > 0 && manner == Manner::kAnswers) send(connection, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
  if (got <= 0) close(connection);
}

void watch(int events_fd, int descriptor, Manner manner) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(descriptor) | (manner == Manner::kIsSilent ? 1ull << 32 : 0);
  epoll_ctl(events_fd, EPOLL_CTL_ADD, descriptor, &event);
}

[[noreturn]] void run_server(int answering, int silent) {
  const int events_fd = epoll_create1(EPOLL_CLOEXEC);
  watch(events_fd, answering, Manner::kAnswers);
  watch(events_fd, silent, Manner::kIsSilent);
  std::array<epoll_event, 256> events{};
  for (;;) {
    const int count = epoll_wait(events_fd, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const uint64_t data = events[static_cast<size_t>(i)].data.u64;
      const int ready = static_cast<int>(data & 0xffffffff);
      const Manner manner = data >> 32 != 0 ? Manner::kIsSilent : Manner::kAnswers;
      if (ready != answering && ready != silent) {
        serve(ready, manner);
        continue;
      }
      for (int accepted = 0;
           (accepted = accept4(ready, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        watch(events_fd, accepted, manner);
      }
    }
  }
}

/// The backends, as a process of its own on every core but `core`; it ends with this.
class Server {
 public:
  explicit Server(uint32_t core)
      : listener_(listen_everywhere(kPort)), silent_(listen_everywhere(kSilentPort)), pid_(fork()) {
    if (pid_ < 0) fail("fork");
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      if (i != core) CPU_SET(i, &cores);
    }
    sched_setaffinity(0, sizeof(cores), &cores);  // of one core alone: it shares it
    run_server(listener_, silent_);
  }
  ~Server() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(listener_);
    close(silent_);
  }
  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;

 private:
  int listener_;
  int silent_;
  pid_t pid_;
};

std::vector<CheckTarget> targets(uint32_t backends, const model::HealthKind &kind, uint16_t l4_port) {
  std::vector<CheckTarget> all(backends);
  for (uint32_t i = 0; i < backends; ++i) {
    CheckTarget &target = all[i];
    target.key = {"pool", "b" + std::to_string(i)};
    const uint32_t address = htonl(0x7f010000u + i);
    target.spec.address.word[2] = htonl(0xffff);
    target.spec.address.word[3] = address;
    target.spec.l4_port = l4_port;
    target.spec.health.kind = kind;
    target.spec.health.port = l4_port;
    target.spec.health.fast_interval = target.spec.health.interval;  // one a second, whatever the state
  }
  return all;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval &time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double resident_mb() {
  long pages = 0;
  FILE *file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
  if (file != nullptr) std::fclose(file);
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

struct Sum {
  uint64_t checks = 0;
  uint64_t up = 0;
};

Sum sum_of(const HealthMonitor &monitor) {
  Sum sum;
  for (const CheckReport &report : monitor.reports()) {
    sum.checks += report.checks;
    sum.up += report.health == model::Health::kUp ? 1 : 0;
  }
  return sum;
}

void measure(const std::string &name, const model::HealthKind &kind, uint16_t l4_port,
             const BenchOptions &options, Report *report) {
  const uint32_t backends = options.depth == Depth::kQuick ? kQuickBackends : kFullBackends;
  const std::chrono::seconds warm_up(options.depth == Depth::kQuick ? 2 : 5);
  const std::chrono::seconds time(options.depth == Depth::kQuick ? 2 : 20);
  const double memory_before = resident_mb();
  auto monitor =
      HealthMonitor::start({.max_concurrent = kFullBackends, .seed = options.seed}, [](const auto &...) {});
  if (!monitor.ok()) throw std::runtime_error(monitor.error().message);
  monitor.value()->set_targets(targets(backends, kind, l4_port));
  std::this_thread::sleep_for(warm_up);
  const Sum before = sum_of(*monitor.value());
  const double cpu_before = cpu_seconds();
  std::this_thread::sleep_for(time);
  const double cpu = (cpu_seconds() - cpu_before) / static_cast<double>(time.count());
  const Sum after = sum_of(*monitor.value());
  const double memory = resident_mb() - memory_before;
  const double lateness_ms = static_cast<double>(monitor.value()->stats().worst_lateness.count()) / 1000;
  const double rate = static_cast<double>(after.checks - before.checks) / static_cast<double>(time.count());
  report->line({name, std::to_string(backends), std::to_string(after.up), number(rate), number(100 * cpu),
                number(lateness_ms), number(memory)},
               {{"bench", "health"},
                {"check", name},
                {"backends", backends},
                {"up", after.up},
                {"checks_per_second", rate},
                {"core_share", cpu},
                {"worst_lateness_ms", lateness_ms},
                {"memory_mb", memory}});
}

void raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

void bench_health(const BenchOptions &options, Report *report) {
  raise_descriptor_limit();
  // Its own thread, so that only that one leaves the caller's network namespace.
  std::exception_ptr failed;
  std::thread([&] {
    try {
      enter_own_namespace();
      const Server server(options.core);
      report->section("Health checks, one a second of each backend, on one core",
                      {"check", "backends", "up", "checks/s", "% of the core", "latest ms", "MB"});
      measure("tcp", model::TcpCheck{}, kPort, options, report);
      measure("http", model::HttpCheck{}, kPort, options, report);
      measure("http, silent", model::HttpCheck{}, kSilentPort, options, report);
    } catch (...) {
      failed = std::current_exception();
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
}

}  // namespace sluice::bench
