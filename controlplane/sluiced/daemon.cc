#include "controlplane/sluiced/daemon.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <ctime>
#include <iostream>
#include <optional>
#include <random>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <curl/curl.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/health/prober.h"
#include "controlplane/sluiced/api_service.h"
#include "controlplane/sluiced/control_api.h"
#include "controlplane/sluiced/reconciler.h"
#include "controlplane/store/directories.h"

namespace sluice {

namespace {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;

constexpr std::chrono::milliseconds kTickInterval{100};
constexpr const char *kRevisionsFile = "revisions.db";  // in the state directory

int fail(const std::string &message) {
  spdlog::critical("{}", message);
  return kExitFailure;
}

// As many descriptors as the host allows; each running check needs one.
uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

int fail_for_configuration(const Options &options, const LoadedConfig &loaded) {
  std::cerr << loaded.errors_to_string();
  spdlog::critical("{} has {} error(s); correct them and start again", options.config.native(),
                   loaded.errors.size());
  return kExitInvalidConfig;
}

// Everything that runs on the control loop's thread.
class Daemon {
 public:
  explicit Daemon(Reconciler::Parts parts) : reconciler_(std::move(parts)) {}

  // Fails with the exit code.
  std::optional<int> start(const Options &options);
  void run() { io_.run(); }
  void stop();

 private:
  void on_signal(int signal);
  void wait_for_signal();
  void wait_for_tick();
  void watch_this_loop();
  void give_sign_of_life();

  asio::io_context io_{1};
  asio::signal_set signals_{io_, SIGTERM, SIGINT, SIGHUP};
  asio::steady_timer tick_{io_};
  std::optional<std::chrono::microseconds> watchdog_gap_;  // nothing: nobody watches
  std::chrono::steady_clock::time_point next_sign_of_life_;
  Reconciler reconciler_;
  std::unique_ptr<ControlApi> control_;
  std::unique_ptr<ApiService> api_;
  std::unique_ptr<Discoverer> discoverer_;
  std::unique_ptr<HealthMonitor> monitor_;  // last: its thread ends first
};

std::optional<int> Daemon::start(const Options &options) {
  const size_t max_concurrent = concurrent_check_limit(raise_descriptor_limit());
  std::random_device seed;
  Result<std::unique_ptr<HealthMonitor>> monitor =
      HealthMonitor::start({.max_concurrent = max_concurrent, .seed = seed()},
                           [this](const model::BackendKey &key, const Address &address, model::Health health,
                                  const std::string &reason) {
                             // Several changes in a row are noted before the first of their posts applies
                             // them all.
                             asio::post(io_, [this, key, address, health, reason] {
                               reconciler_.note_health(key, address, health, reason);
                               asio::post(io_, [this] { reconciler_.apply_pending(); });
                             });
                           });
  if (!monitor.ok()) return fail(monitor.error().message);
  monitor_ = std::move(monitor).value();
  spdlog::info("health: at most {} checks at once", max_concurrent);

  Result<std::unique_ptr<Discoverer>> discoverer =
      Discoverer::start({.directory = options.state_dir / "discovery", .seed = seed()}, [this] {
        asio::post(io_, [this] {
          reconciler_.note_found();
          asio::post(io_, [this] { reconciler_.apply_pending(); });
        });
      });
  if (!discoverer.ok()) return fail(discoverer.error().message);
  discoverer_ = std::move(discoverer).value();

  const Status started = reconciler_.start(monitor_.get(), discoverer_.get());
  if (!started.ok()) return fail(started.error().message);
  control_ = std::make_unique<ControlApi>(&reconciler_, static_cast<int64_t>(std::time(nullptr)));
  const Status place = make_directories(options.api_socket.parent_path());
  if (!place.ok()) return fail("--api-socket: " + place.error().message);
  Result<std::unique_ptr<ApiService>> service = ApiService::start(
      io_, *control_, {.socket_path = options.api_socket, .log_directory = options.state_dir},
      reconciler_.desired().api);
  if (!service.ok()) return fail(service.error().message);
  api_ = std::move(service).value();
  reconciler_.prepare_reloads_by([this](const model::DesiredState &next) { return api_->prepare(next.api); });
  watch_this_loop();
  wait_for_signal();
  wait_for_tick();
  sd_notify(0, "READY=1");
  spdlog::info("ready: API on {}", options.api_socket.native());
  return std::nullopt;
}

void Daemon::on_signal(int signal) {
  if (signal == SIGHUP) {
    sd_notify(0, "RELOADING=1");
    const api::ChangeResult done = reconciler_.reload({.author = "SIGHUP"});
    api_->note_change("SIGHUP", "reload",
                      {.outcome = done.is_nothing() ? "refused" : "applied", .revision = done.revision});
    sd_notify(0, "READY=1");
    wait_for_signal();
    return;
  }
  spdlog::info("ending on signal {}; the dataplane forwards on", signal);
  sd_notify(0, "STOPPING=1");
  io_.stop();
}

void Daemon::wait_for_signal() {
  signals_.async_wait([this](const ErrorCode &error, int signal) {
    if (!error) on_signal(signal);
  });
}

void Daemon::wait_for_tick() {
  tick_.expires_after(kTickInterval);
  tick_.async_wait([this](const ErrorCode &error) {
    if (error) return;
    reconciler_.tick();
    give_sign_of_life();
    wait_for_tick();
  });
}

// systemd's WatchdogSec. Told from this loop and no other thread: it is what must not hang.
void Daemon::watch_this_loop() {
  uint64_t limit_us = 0;
  if (sd_watchdog_enabled(0, &limit_us) > 0) watchdog_gap_ = std::chrono::microseconds(limit_us / 4);
}

void Daemon::give_sign_of_life() {
  const auto now = std::chrono::steady_clock::now();
  if (!watchdog_gap_ || now < next_sign_of_life_) return;
  next_sign_of_life_ = now + *watchdog_gap_;
  sd_notify(0, "WATCHDOG=1");
}

void Daemon::stop() {
  api_.reset();
  discoverer_.reset();
  monitor_.reset();
  reconciler_.flush();
}

}  // namespace

int check_config_file(const std::filesystem::path &path) {
  const LoadedConfig loaded = load_config_file(path);
  if (!loaded.ok()) {
    std::cerr << loaded.errors_to_string();
    return kExitInvalidConfig;
  }
  std::cout << path.native() << " is valid: " << loaded.state->services.size() << " services, "
            << loaded.state->pools.size() << " pools\n";
  return kExitOk;
}

int run_daemon(const Options &options) {
  const Result<std::string> text = read_config_file(options.config);
  LoadedConfig loaded =
      text.ok() ? load_config(text.value(), options.config.native())
                : LoadedConfig{{}, {{.file = options.config.native(), .message = text.error().message}}};
  std::signal(SIGPIPE, SIG_IGN);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  Result<StateStore> store = StateStore::open(options.state_dir);
  if (!store.ok()) return loaded.ok() ? fail(store.error().message) : fail_for_configuration(options, loaded);
  const Result<FlowHashKey> key = store.value().load_or_make_flow_hash_key(system_random);
  if (!key.ok()) return fail(key.error().message);
  Result<ConfigurationHistory> history = ConfigurationHistory::open(options.state_dir / kRevisionsFile);
  if (!history.ok()) return fail(history.error().message);
  const auto now = static_cast<int64_t>(std::time(nullptr));
  std::optional<model::DesiredState> desired =
      loaded.ok() ? history.value().begin(options.config, text.value(), std::move(*loaded.state), now)
                  : history.value().begin_without_file(now);
  if (!desired) return fail_for_configuration(options, loaded);
  if (!loaded.ok()) {
    spdlog::error("beginning with the configuration of before, since the file has errors:\n{}",
                  loaded.errors_to_string());
  }
  Daemon daemon({.config_path = options.config,
                 .desired = std::move(*desired),
                 .store = std::move(store).value(),
                 .link = DataplaneLink(options.dataplane_socket),
                 .stored_flow_hash_key = key.value(),
                 .history = std::move(history).value(),
                 .config_problem = loaded.errors_to_string()});
  if (const std::optional<int> failed = daemon.start(options)) return *failed;
  daemon.run();
  daemon.stop();
  return kExitOk;
}

}  // namespace sluice
