#include "controlplane/health/monitor.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <queue>
#include <random>
#include <thread>
#include <unordered_map>

#include "controlplane/health/prober.h"

namespace sluice {

namespace {

using Clock = Prober::Clock;

constexpr std::chrono::milliseconds kLongestFirstDelay{1000};

// A watched backend. `serial` names it in the schedule: one that was removed or got another check leaves
// entries behind there that no longer find it.
struct Watched {
  CheckTarget target;
  HealthState state;
  model::Health told = model::Health::kUnknown;  // what the listener believes
  CheckOutcome last_outcome = CheckOutcome::kNotCarriedOut;
  std::string last_text = "not checked yet";
  Clock::time_point due;
  Clock::time_point started;
  Clock::time_point ended;
  uint64_t checks = 0;
};

struct Due {
  Clock::time_point at;
  uint64_t serial;
  bool operator>(const Due &other) const { return at > other.at; }
};

// A streak is not handed over: it counts anew.
HealthState initial_state(const CheckTarget &target) {
  const bool failing = target.initial == model::Health::kFailing;
  return {.health = failing ? model::Health::kUp : target.initial, .streak = 0};
}

bool asks_the_same(CheckSpec one, const CheckSpec &other) {
  one.first_source_port = other.first_source_port;
  one.rests = other.rests;
  return one == other;
}

struct Change {
  model::BackendKey key;
  Address address;
  model::Health health;
  std::string reason;
};

}  // namespace

struct HealthMonitor::Impl {
  MonitorOptions options;
  OnChange on_change;
  std::unique_ptr<Prober> prober;
  std::thread thread;
  std::atomic<bool> stopping{false};

  mutable std::mutex mutex;  // guards what follows
  std::mt19937_64 random;
  uint64_t next_serial = 1;
  std::map<model::BackendKey, uint64_t> serials;
  std::unordered_map<uint64_t, Watched> watched;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> schedule;
  std::deque<uint64_t> waiting;
  std::vector<Change> changes;
  size_t running = 0;
  size_t waiting_for_turns = 0;
  Clock::duration worst_lateness{0};
  CheckTotalsByKind totals;
  uint64_t through_dataplane_checks = 0;

  void run();
  void start_due(Clock::time_point now);
  void start_waiting();
  bool on_begun(uint64_t serial);
  void on_done(uint64_t serial, const CheckResult &result);
  void watch(const CheckTarget &target, Clock::time_point now);
  void send_otherwise(std::unordered_map<uint64_t, Watched>::iterator old, const CheckTarget &target,
                      Clock::time_point now);
  void watch_anew(const CheckTarget &target, HealthState state, model::Health told, Clock::time_point now);
  std::chrono::milliseconds random_part(std::chrono::milliseconds span);
  void plan(uint64_t serial, Watched *entry, Clock::time_point due);
  std::chrono::milliseconds wait_after(const Watched &entry);
};

// A random time from 0 up to `span`. Called with the lock held.
std::chrono::milliseconds HealthMonitor::Impl::random_part(std::chrono::milliseconds span) {
  const int64_t longest = std::max<int64_t>(0, span.count());
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>(0, longest)(random));
}

void HealthMonitor::Impl::watch_anew(const CheckTarget &target, HealthState state, model::Health told,
                                     Clock::time_point now) {
  const uint64_t serial = next_serial++;
  Watched &entry = watched[serial];
  entry.target = target;
  entry.state = state;
  entry.told = told;
  serials[target.key] = serial;
  plan(serial, &entry, now + random_part(std::min(target.spec.health.interval, kLongestFirstDelay)));
}

void HealthMonitor::Impl::plan(uint64_t serial, Watched *entry, Clock::time_point due) {
  entry->due = due;
  schedule.push({due, serial});
}

// From the start of the check that has just ended to the start of the next. Called with the lock held.
std::chrono::milliseconds HealthMonitor::Impl::wait_after(const Watched &entry) {
  const model::HealthSpec &health = entry.target.spec.health;
  const std::chrono::milliseconds interval =
      is_changing(entry.state) ? health.fast_interval : health.interval;
  // The second check comes early by a random part of the interval: the first ones were close together.
  if (entry.checks == 1) return interval - random_part(interval / 2);
  const std::chrono::milliseconds jitter = interval * health.jitter_percent / 100;
  return interval - jitter + random_part(2 * jitter);
}

// Another way, or none for now: what is known of the backend stays, and the result of a check that runs is
// not taken.
void HealthMonitor::Impl::send_otherwise(std::unordered_map<uint64_t, Watched>::iterator old,
                                         const CheckTarget &target, Clock::time_point now) {
  Watched entry = std::move(old->second);
  watched.erase(old);
  const uint64_t serial = next_serial++;
  entry.target = target;
  const auto soon = random_part(std::min(target.spec.health.interval, kLongestFirstDelay));
  const Clock::time_point due = entry.due > now ? entry.due : now + soon;
  serials[target.key] = serial;
  plan(serial, &watched.emplace(serial, std::move(entry)).first->second, due);
}

void HealthMonitor::Impl::watch(const CheckTarget &target, Clock::time_point now) {
  const auto known = serials.find(target.key);
  if (known == serials.end()) {
    watch_anew(target, initial_state(target), target.initial, now);
    return;
  }
  const auto old = watched.find(known->second);
  const bool same_backend = old->second.target.address == target.address;
  if (same_backend && old->second.target.spec == target.spec) return;
  if (same_backend && asks_the_same(old->second.target.spec, target.spec))
    return send_otherwise(old, target, now);
  HealthState kept = initial_state(target);
  model::Health told = target.initial;
  if (same_backend) {
    kept = {.health = old->second.state.health, .streak = 0};
    told = old->second.told;
  }
  watched.erase(old);
  watch_anew(target, kept, told, now);
}

// Moves what is due from the schedule to the end of the waiting line.
void HealthMonitor::Impl::start_due(Clock::time_point now) {
  while (!schedule.empty() && schedule.top().at <= now) {
    const uint64_t serial = schedule.top().serial;
    schedule.pop();
    if (watched.contains(serial)) waiting.push_back(serial);
  }
  start_waiting();
}

void HealthMonitor::Impl::start_waiting() {
  while (!waiting.empty() && prober->running() < options.max_concurrent) {
    const auto found = watched.find(waiting.front());
    waiting.pop_front();
    if (found != watched.end()) prober->start(found->first, found->second.target.spec);
  }
}

// A check begins: on the monitor's thread, within serve_until(), after all that was to be served before.
// False: its target has gone while it waited for its turn.
bool HealthMonitor::Impl::on_begun(uint64_t serial) {
  const std::lock_guard lock(mutex);
  const auto found = watched.find(serial);
  if (found == watched.end()) return false;
  found->second.started = Clock::now();
  worst_lateness = std::max(worst_lateness, found->second.started - found->second.due);
  return true;
}

// A check has ended: on the monitor's thread, within serve_until().
void HealthMonitor::Impl::on_done(uint64_t serial, const CheckResult &result) {
  const std::lock_guard lock(mutex);
  const auto found = watched.find(serial);
  if (found == watched.end()) return;
  Watched &entry = found->second;
  const CheckSpec &spec = entry.target.spec;
  entry.state = observe_check(entry.state, result.outcome, spec.health.rise, spec.health.fall);
  entry.last_outcome = result.outcome;
  entry.last_text = result.text;
  entry.ended = Clock::now();
  entry.checks++;
  if (spec.first_source_port != 0) through_dataplane_checks++;
  totals[model::health_kind_name(spec.health.kind)].count(result.outcome, entry.ended - entry.started);
  plan(serial, &entry, std::max(entry.started + wait_after(entry), entry.ended));
  const model::Health after = reported_health(entry.state);
  if (after == entry.told) return;
  entry.told = after;
  changes.push_back({entry.target.key, entry.target.address, after, result.text});
}

void HealthMonitor::Impl::run() {
  while (!stopping) {
    Clock::time_point next = Clock::now() + std::chrono::seconds(60);
    std::vector<Change> to_tell;
    {
      const std::lock_guard lock(mutex);
      start_due(Clock::now());
      running = prober->running();
      waiting_for_turns = prober->waiting();
      if (!schedule.empty()) next = std::min(next, schedule.top().at);
      to_tell.swap(changes);
    }
    for (const Change &change : to_tell) on_change(change.key, change.address, change.health, change.reason);
    prober->serve_until(to_tell.empty() ? next : Clock::now());
  }
}

HealthMonitor::HealthMonitor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([this] { impl_->run(); });
}

Result<std::unique_ptr<HealthMonitor>> HealthMonitor::start(MonitorOptions options, OnChange on_change) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->on_change = std::move(on_change);
  impl->random.seed(options.seed);
  Result<std::unique_ptr<Prober>> prober = Prober::create(
      [raw = impl.get()](uint64_t serial, const CheckResult &result) { raw->on_done(serial, result); },
      [raw = impl.get()](uint64_t serial) { return raw->on_begun(serial); });
  if (!prober.ok()) return prober.error();
  impl->prober = std::move(prober).value();
  return std::unique_ptr<HealthMonitor>(new HealthMonitor(std::move(impl)));
}

HealthMonitor::~HealthMonitor() {
  impl_->stopping = true;
  impl_->prober->wake();
  impl_->thread.join();
}

void HealthMonitor::set_targets(const std::vector<CheckTarget> &targets) {
  {
    const std::lock_guard lock(impl_->mutex);
    const Clock::time_point now = Clock::now();
    std::map<model::BackendKey, uint64_t> before = impl_->serials;
    for (const CheckTarget &target : targets) {
      before.erase(target.key);
      impl_->watch(target, now);
    }
    for (const auto &[key, serial] : before) {
      impl_->watched.erase(serial);
      impl_->serials.erase(key);
    }
  }
  impl_->prober->wake();
}

std::vector<CheckReport> HealthMonitor::reports() const {
  const std::lock_guard lock(impl_->mutex);
  const Clock::time_point now = Clock::now();
  std::vector<CheckReport> reports;
  reports.reserve(impl_->serials.size());
  for (const auto &[key, serial] : impl_->serials) {
    const Watched &entry = impl_->watched.at(serial);
    CheckReport report;
    report.key = key;
    report.health = reported_health(entry.state);
    report.last_outcome = entry.last_outcome;
    report.last_text = entry.last_text;
    report.checks = entry.checks;
    if (entry.checks > 0) {
      report.age = std::chrono::duration_cast<std::chrono::milliseconds>(now - entry.ended);
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

CheckTotalsByKind HealthMonitor::totals() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->totals;
}

MonitorStats HealthMonitor::stats() const {
  const std::lock_guard lock(impl_->mutex);
  const auto goes_through = [](const auto &entry) {
    return entry.second.target.spec.first_source_port != 0 && entry.second.target.spec.rests.empty();
  };
  return {.targets = impl_->watched.size(),
          .through_dataplane = static_cast<size_t>(std::ranges::count_if(impl_->watched, goes_through)),
          .through_dataplane_checks = impl_->through_dataplane_checks,
          .running = impl_->running,
          .waiting = impl_->waiting.size() + impl_->waiting_for_turns,
          .max_concurrent = impl_->options.max_concurrent,
          .worst_lateness = std::chrono::duration_cast<std::chrono::microseconds>(impl_->worst_lateness)};
}

}  // namespace sluice
