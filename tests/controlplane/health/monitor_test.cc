#include "controlplane/health/monitor.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "tests/controlplane/health/loopback_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr auto kGiveUp = 30s;

// Collects the monitor's news, and lets a test wait for some of it.
class News {
 public:
  HealthMonitor::OnChange listener() {
    return [this](const model::BackendKey &key, const Address &address, model::Health health,
                  const std::string &reason) {
      const std::lock_guard lock(mutex_);
      address_ = address;
      heard_.push_back(key.pool + "/" + key.name + " " + health_name(health) + ": " + reason);
      changed_.notify_all();
    };
  }

  bool wait_for(const std::string &line, int times = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kGiveUp,
                             [&] { return std::count(heard_.begin(), heard_.end(), line) >= times; });
  }

  // That the last news was of.
  Address address() {
    const std::lock_guard lock(mutex_);
    return address_;
  }

  std::vector<std::string> heard() {
    const std::lock_guard lock(mutex_);
    return heard_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> heard_;
  Address address_{};
};

CheckTarget target(const std::string &name, uint16_t l4_port,
                   model::Health initial = model::Health::kUnknown) {
  CheckTarget target;
  target.key = {"web", name};
  target.address = *parse_address("10.0.0.1");
  target.spec.address = loopback_address(Family::kIpv4);
  target.spec.l4_port = l4_port;
  target.spec.health.kind = model::TcpCheck{};
  target.spec.health.interval = 20ms;
  target.spec.health.timeout = 10'000ms;
  target.spec.health.rise = 2;
  target.spec.health.fall = 2;
  target.initial = initial;
  return target;
}

std::unique_ptr<HealthMonitor> start_monitor(News &news, size_t max_concurrent = 100) {
  auto monitor = HealthMonitor::start({.max_concurrent = max_concurrent, .seed = 1}, news.listener());
  EXPECT_TRUE(monitor.ok());
  return std::move(monitor).value();
}

// Waits until a target has had that many checks.
CheckReport wait_for_checks(HealthMonitor &monitor, const std::string &name, uint64_t checks) {
  const auto give_up = std::chrono::steady_clock::now() + kGiveUp;
  while (std::chrono::steady_clock::now() < give_up) {
    for (const CheckReport &report : monitor.reports()) {
      if (report.key.name == name && report.checks >= checks) return report;
    }
    std::this_thread::sleep_for(1ms);
  }
  ADD_FAILURE() << name << " was not checked " << checks << " times";
  return {};
}

TEST(HealthMonitor, tells_when_a_backend_goes_up_down_and_comes_back) {
  std::atomic<int> status{200};
  LoopbackServer server(Family::kIpv6, [&](LoopbackServer &, int connection) {
    read_request(connection);
    send_text(connection, "HTTP/1.1 " + std::to_string(status) + " Some\r\nContent-Length: 0\r\n\r\n");
  });
  CheckTarget b1 = target("b1", server.l4_port());
  b1.spec.health.kind = model::HttpCheck{};
  b1.spec.address = loopback_address(Family::kIpv6);
  News news;
  auto monitor = start_monitor(news);
  monitor->set_targets({b1});
  EXPECT_TRUE(news.wait_for("web/b1 up: HTTP status 200"));
  EXPECT_EQ(news.address(), b1.address);
  status = 503;
  EXPECT_TRUE(news.wait_for("web/b1 failing: HTTP status 503, expected 200-399"));
  EXPECT_TRUE(news.wait_for("web/b1 down: HTTP status 503, expected 200-399"));
  status = 204;
  EXPECT_TRUE(news.wait_for("web/b1 up: HTTP status 204"));
  EXPECT_EQ(news.heard().size(), 4u);
}

TEST(HealthMonitor, recovered_health_stays_without_news) {
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  const ClosedPort closed(Family::kIpv4);
  News news;
  auto monitor = start_monitor(news);
  monitor->set_targets({target("up", server.l4_port(), model::Health::kUp),
                        target("down", closed.l4_port(), model::Health::kDown)});
  EXPECT_EQ(wait_for_checks(*monitor, "up", 3).health, model::Health::kUp);
  const CheckReport down = wait_for_checks(*monitor, "down", 3);
  EXPECT_EQ(down.health, model::Health::kDown);
  EXPECT_EQ(down.last_text, "connection refused");
  EXPECT_TRUE(news.heard().empty());
}

TEST(HealthMonitor, a_changed_check_keeps_the_health_and_an_unchanged_one_keeps_its_counts) {
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  News news;
  auto monitor = start_monitor(news);
  CheckTarget changed = target("changed", server.l4_port());
  const CheckTarget same = target("same", server.l4_port());
  monitor->set_targets({changed, same});
  wait_for_checks(*monitor, "changed", 2);
  const uint64_t before = wait_for_checks(*monitor, "same", 2).checks;
  changed.spec.health.timeout = 11'000ms;
  monitor->set_targets({changed, same});
  for (const CheckReport &report : monitor->reports()) {
    EXPECT_EQ(report.health, model::Health::kUp) << report.key.name;
    if (report.key.name == "same") {
      EXPECT_GE(report.checks, before);
    }
  }
  wait_for_checks(*monitor, "changed", 1);
  EXPECT_EQ(news.heard().size(), 2u);
}

TEST(HealthMonitor, a_check_that_rests_keeps_what_is_known) {
  News news;
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  auto monitor = start_monitor(news);
  CheckTarget resting = target("b1", server.l4_port());
  resting.spec.health.interval = 1h;
  resting.spec.health.fast_interval = 1h;
  resting.spec.health.rise = 1;
  monitor->set_targets({resting});
  ASSERT_TRUE(news.wait_for("web/b1 up: connected"));
  resting.spec.rests = "nobody is there";
  monitor->set_targets({resting});
  const CheckReport report = monitor->reports().at(0);
  EXPECT_EQ(report.health, model::Health::kUp);
  EXPECT_EQ(report.checks, 1u);
  EXPECT_EQ(report.last_text, "connected");
}

TEST(HealthMonitor, a_backend_at_another_address_is_another_one_though_the_check_asks_where_it_did) {
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  News news;
  auto monitor = start_monitor(news);
  CheckTarget b1 = target("b1", server.l4_port());
  monitor->set_targets({b1});
  ASSERT_TRUE(news.wait_for("web/b1 up: connected"));
  b1.address = *parse_address("10.0.0.2");
  monitor->set_targets({b1});
  ASSERT_TRUE(news.wait_for("web/b1 up: connected", 2));
  EXPECT_EQ(news.address(), b1.address);
}

TEST(HealthMonitor, a_check_that_asks_elsewhere_keeps_the_health_of_the_same_backend) {
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  News news;
  auto monitor = start_monitor(news);
  CheckTarget b1 = target("b1", server.l4_port());
  monitor->set_targets({b1});
  ASSERT_TRUE(news.wait_for("web/b1 up: connected"));
  b1.spec.address = loopback_address(Family::kIpv6);
  b1.spec.health.interval = 3'600'000ms;
  monitor->set_targets({b1});
  EXPECT_EQ(monitor->reports().at(0).health, model::Health::kUp);
}

TEST(HealthMonitor, a_removed_target_is_forgotten) {
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int) {});
  News news;
  auto monitor = start_monitor(news);
  monitor->set_targets({target("b1", server.l4_port()), target("b2", server.l4_port())});
  wait_for_checks(*monitor, "b1", 1);
  monitor->set_targets({target("b2", server.l4_port())});
  const std::vector<CheckReport> reports = monitor->reports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].key.name, "b2");
}

TEST(HealthMonitor, before_its_first_check_a_target_says_so) {
  News news;
  auto monitor = start_monitor(news);
  CheckTarget late = target("late", 1);
  late.spec.health.interval = 3'600'000ms;
  monitor->set_targets({late});
  const CheckReport report = monitor->reports().at(0);
  if (report.checks == 0) {
    EXPECT_EQ(report.last_text, "not checked yet");
  }
  EXPECT_EQ(report.health, model::Health::kUnknown);
}

TEST(HealthMonitor, no_more_checks_run_at_once_than_the_limit_and_all_get_their_turn) {
  std::mutex mutex;
  int open = 0;
  int most_open = 0;
  LoopbackServer server(Family::kIpv4, [&](LoopbackServer &, int connection) {
    read_request(connection);
    {
      const std::lock_guard lock(mutex);
      most_open = std::max(most_open, ++open);
    }
    std::this_thread::sleep_for(5ms);
    {
      const std::lock_guard lock(mutex);
      open--;
    }
    send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  News news;
  auto monitor = start_monitor(news, 3);
  std::vector<CheckTarget> targets;
  for (int i = 0; i < 40; i++) {
    targets.push_back(target(fmt::format("b{}", i), server.l4_port()));
    targets.back().spec.health.kind = model::HttpCheck{};
  }
  monitor->set_targets(targets);
  for (const CheckTarget &each : targets) wait_for_checks(*monitor, each.key.name, 2);
  const std::lock_guard lock(mutex);
  EXPECT_LE(most_open, 3);
  EXPECT_GE(most_open, 1);
  EXPECT_EQ(monitor->stats().max_concurrent, 3u);
  EXPECT_EQ(monitor->stats().targets, 40u);
}

TEST(HealthMonitor, lateness_is_counted_up_to_where_the_check_begins) {
  constexpr auto kHeldUp = 200ms;
  LoopbackServer server(Family::kIpv4, [](LoopbackServer &, int connection) {
    read_request(connection);
    std::this_thread::sleep_for(50ms);  // longer than the interval: the next check is due when this one ends
    send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  // The monitor's thread starts the second check, tells the listener of the first, and begins the second.
  const auto holds_up = [&](const model::BackendKey &, const Address &, model::Health, const std::string &) {
    std::this_thread::sleep_for(kHeldUp);
  };
  auto monitor = HealthMonitor::start({}, holds_up);
  ASSERT_TRUE(monitor.ok());
  CheckTarget b1 = target("b1", server.l4_port());
  b1.spec.health.kind = model::HttpCheck{};
  b1.spec.health.rise = 1;
  monitor.value()->set_targets({b1});
  wait_for_checks(*monitor.value(), "b1", 2);
  EXPECT_GE(monitor.value()->stats().worst_lateness, kHeldUp);
}

TEST(HealthMonitor, checks_that_begin_together_spread) {
  News news;
  const ClosedPort closed(Family::kIpv4);
  std::mutex mutex;
  std::vector<std::chrono::steady_clock::time_point> arrivals;
  LoopbackServer server(Family::kIpv4, [&](LoopbackServer &, int) {
    const std::lock_guard lock(mutex);
    arrivals.push_back(std::chrono::steady_clock::now());
  });
  auto monitor = start_monitor(news);
  std::vector<CheckTarget> targets;
  for (int i = 0; i < 50; i++) {
    targets.push_back(target(fmt::format("b{}", i), server.l4_port()));
    targets.back().spec.health.interval = 1000ms;
  }
  monitor->set_targets(targets);
  for (const CheckTarget &each : targets) wait_for_checks(*monitor, each.key.name, 1);
  const std::lock_guard lock(mutex);
  ASSERT_GE(arrivals.size(), 50u);
  // Fifty uniform draws from a second: that they lie within a third of it has odds of 1 to 10^20. The
  // seed is fixed; a slow host only spreads them further.
  EXPECT_GT(arrivals.back() - arrivals.front(), 333ms);
}

}  // namespace
}  // namespace sluice
