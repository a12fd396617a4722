#include "controlplane/discovery/discoverer.h"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/discovery/backoff.h"
#include "controlplane/discovery/found_store.h"
#include "controlplane/discovery/merge.h"
#include "controlplane/discovery/registrations.h"
#include "controlplane/discovery/source.h"

namespace sluice {

namespace asio = boost::asio;

namespace {

using Clock = PoolFeed::Clock;
using Outcome = Registered::Outcome;

constexpr std::chrono::hours kLongWait{24};

Now now() { return {Clock::now(), static_cast<int64_t>(std::time(nullptr))}; }

bool is_registration(const model::DiscoverySpec &spec) {
  return std::holds_alternative<model::RegistrationSource>(spec.kind);
}

// A source that is followed: by the coroutine that runs for it, which keeps it alive.
struct Followed {
  Followed(asio::io_context &io, std::string pool, const model::DiscoverySpec &spec)
      : feed(std::move(pool), spec), wake(io), review(io) {}

  PoolFeed feed;                // guarded by the lock
  Registrations registrations;  // guarded by the lock
  Signal wake;                  // what follows: on the loop's thread
  asio::steady_timer review;
  std::unique_ptr<Source> source;  // nullptr: registrations
  bool stopped = false;
};
using FollowedPtr = std::shared_ptr<Followed>;

}  // namespace

struct Discoverer::Impl {
  Impl(const DiscovererOptions &options, OnChange changed)
      : on_change(std::move(changed)), store(options.directory), random(options.seed) {}

  OnChange on_change;
  FoundStore store;
  TlsContexts tls;
  asio::io_context io{1};
  std::unique_ptr<CurlTransfers> curl;
  std::optional<SourceContext> context;
  std::mt19937_64 random;
  size_t running = 0;  // coroutines
  bool ending = false;
  std::thread thread;

  std::mutex store_mutex;  // taken before `mutex`: what is stored last is the newest

  mutable std::mutex mutex;  // guards what follows
  model::DesiredState configured;
  std::optional<FoundLimits> limits;  // of `configured`
  std::map<std::string, FollowedPtr> followed;

  void follow(const FollowedPtr &one);
  void unfollow(const FollowedPtr &one);
  void end();
  asio::awaitable<void> run(FollowedPtr one);
  asio::awaitable<void> ask(FollowedPtr one);
  asio::awaitable<void> expire(FollowedPtr one);
  Clock::time_point note(const FollowedPtr &one, Result<Said> said);
  void plan_review(const FollowedPtr &one);
  void tell(const Followed &one, bool changed, SourceState before);

  // With the lock held.
  FollowedPtr make_followed(const std::string &pool, const model::DiscoverySpec &spec);
  FoundPools found_pools() const;
  PoolFeed::Fits fits(const std::string &pool) const;
  Registered change_registrations(const std::string &pool,
                                  const std::function<std::optional<Registered>(Followed *)> &change);
  Registered order(Followed *one, const Registrations &registrations, const std::string &name);
};

FoundPools Discoverer::Impl::found_pools() const {
  FoundPools pools;
  for (const auto &[pool, one] : followed) pools.emplace(pool, one->feed.found());
  return pools;
}

// Whether the configuration has room for `backends` of `pool` beside what was found for the others.
PoolFeed::Fits Discoverer::Impl::fits(const std::string &pool) const {
  return
      [this, pool](const std::vector<FoundBackend> &backends, std::vector<std::string> *left_out) -> Status {
        size_t others = 0;
        for (const auto &[name, one] : followed) {
          if (name != pool) others += one->feed.found()->size();
        }
        return limits->fits(pool, backends, others, left_out);
      };
}

// After the lock: stores what has changed, says so, and says what is worth a line in the log.
void Discoverer::Impl::tell(const Followed &one, bool changed, SourceState before) {
  const std::lock_guard store_lock(store_mutex);
  SourceReport report;
  StoredPool stored;
  {
    const std::lock_guard lock(mutex);
    if (!changed && one.feed.state() == before) return;
    report = one.feed.report(Clock::now());
    if (changed) stored = {one.feed.found_unix_s(), *one.feed.found()};
  }
  const bool fine = report.state == SourceState::kOk;
  spdlog::log(fine ? spdlog::level::info : spdlog::level::warn, "discovery of pool {}: {}: {}", report.pool,
              report.source, report.text);
  if (!changed) return;
  if (const Status saved = store.save(report.pool, stored); !saved.ok()) {
    spdlog::error("{}; a restart of sluiced would not find what was found", saved.error().message);
  }
}

// What became of a question; when to put the next.
Clock::time_point Discoverer::Impl::note(const FollowedPtr &one, Result<Said> said) {
  bool changed = false;
  SourceState before;
  Clock::time_point next = Clock::now();
  {
    const std::lock_guard lock(mutex);
    PoolFeed &feed = one->feed;
    before = feed.state();
    if (said.ok()) {
      next += said.value().wait;
      changed = feed.note_answer(std::move(said.value().answer), now(), fits(feed.pool()));
    } else {
      feed.note_failure(said.error().message, now());
      next += backoff(static_cast<unsigned>(feed.failures()), feed.spec().max_backoff, random);
    }
    feed.set_next_try(next > Clock::now() ? std::optional(next) : std::nullopt);
  }
  tell(*one, changed, before);
  plan_review(one);
  if (changed) on_change();
  return next;
}

// An answer that is held is looked at again when its time has come, whatever the source does meanwhile.
void Discoverer::Impl::plan_review(const FollowedPtr &one) {
  std::optional<Clock::time_point> at;
  {
    const std::lock_guard lock(mutex);
    at = one->feed.review_at();
  }
  if (!at) {
    one->review.cancel();
    return;
  }
  one->review.expires_at(*at);
  one->review.async_wait([this, weak = std::weak_ptr(one)](const boost::system::error_code &error) {
    const FollowedPtr reviewed = weak.lock();
    if (error || reviewed == nullptr || reviewed->stopped) return;
    bool changed = false;
    SourceState before;
    {
      const std::lock_guard lock(mutex);
      before = reviewed->feed.state();
      changed = reviewed->feed.review(now(), fits(reviewed->feed.pool()));
    }
    tell(*reviewed, changed, before);
    plan_review(reviewed);
    if (changed) on_change();
  });
}

asio::awaitable<void> Discoverer::Impl::ask(FollowedPtr one) {
  while (!one->stopped) {
    Result<Said> said = co_await one->source->next();
    if (one->stopped) co_return;
    const Clock::time_point next = note(one, std::move(said));
    if (next > Clock::now()) co_await one->wake.wait_until(next);
    const std::lock_guard lock(mutex);
    one->feed.set_next_try(std::nullopt);
  }
}

// Takes out the registrations that were not heard of in time.
asio::awaitable<void> Discoverer::Impl::expire(FollowedPtr one) {
  while (!one->stopped) {
    Clock::time_point next = Clock::now() + kLongWait;
    bool changed = false;
    SourceState before;
    {
      const std::lock_guard lock(mutex);
      before = one->feed.state();
      if (one->registrations.expire(Clock::now()) > 0) {
        changed = one->feed.note_answer({one->registrations.backends(), {}}, now(), fits(one->feed.pool()));
      }
      next = std::min(next, one->registrations.next_end().value_or(next));
    }
    tell(*one, changed, before);
    plan_review(one);
    if (changed) on_change();
    co_await one->wake.wait_until(next);
  }
}

asio::awaitable<void> Discoverer::Impl::run(FollowedPtr one) {
  if (one->source == nullptr) {
    co_await expire(one);
  } else {
    co_await ask(one);
  }
  one->review.cancel();
  one->source.reset();
}

void Discoverer::Impl::follow(const FollowedPtr &one) {
  struct Maker {
    SourceContext &context;
    const model::DiscoverySpec &spec;
    Signal &wake;
    std::unique_ptr<Source> operator()(const model::NoSource &) { return nullptr; }
    std::unique_ptr<Source> operator()(const model::RegistrationSource &) { return nullptr; }
    std::unique_ptr<Source> operator()(const model::FileSource &) {
      return make_file_source(context, spec, wake);
    }
    std::unique_ptr<Source> operator()(const model::DnsSource &) { return make_dns_source(context, spec); }
    std::unique_ptr<Source> operator()(const model::EtcdSource &) { return make_etcd_source(context, spec); }
    std::unique_ptr<Source> operator()(const model::ConsulSource &) {
      return make_consul_source(context, spec);
    }
  };
  const model::DiscoverySpec &spec = one->feed.spec();
  one->source = std::visit(Maker{*context, spec, one->wake}, spec.kind);
  ++running;
  asio::co_spawn(io, run(one), [this](const std::exception_ptr &fault) {
    if (fault) std::rethrow_exception(fault);
    --running;
    if (ending && running == 0) io.stop();
  });
}

void Discoverer::Impl::unfollow(const FollowedPtr &one) {
  one->stopped = true;
  if (one->source != nullptr) one->source->stop();
  one->wake.raise();
}

// On the loop's thread, when all is to end.
void Discoverer::Impl::end() {
  ending = true;
  std::map<std::string, FollowedPtr> all;
  {
    const std::lock_guard lock(mutex);
    all = followed;
  }
  for (const auto &[pool, one] : all) unfollow(one);
  if (running == 0) io.stop();
}

Discoverer::Discoverer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([raw = impl_.get()] {
    const auto work = asio::make_work_guard(raw->io);
    raw->io.run();
  });
}

Result<std::unique_ptr<Discoverer>> Discoverer::start(const DiscovererOptions &options, OnChange on_change) {
  auto impl = std::make_unique<Impl>(options, std::move(on_change));
  auto curl = CurlTransfers::create(impl->io);
  if (!curl.ok()) return curl.error();
  impl->curl = std::move(curl).value();
  impl->context.emplace(SourceContext{impl->io, impl->tls, *impl->curl});
  return std::unique_ptr<Discoverer>(new Discoverer(std::move(impl)));
}

Discoverer::~Discoverer() {
  asio::post(impl_->io, [raw = impl_.get()] { raw->end(); });
  impl_->thread.join();
}

// What the pool begins with: what was found before, or what the disk has.
FollowedPtr Discoverer::Impl::make_followed(const std::string &pool, const model::DiscoverySpec &spec) {
  auto made = std::make_shared<Followed>(io, pool, spec);
  if (const auto before = followed.find(pool); before != followed.end()) {
    made->feed.begin_with(*before->second->feed.found(), before->second->feed.found_unix_s());
    return made;
  }
  const auto stored = store.load(pool);
  if (!stored.ok())
    spdlog::error("discovery of pool {} begins with nothing: {}", pool, stored.error().message);
  if (!stored.ok() || !stored.value()) return made;
  std::vector<std::string> left_out;
  if (const Status fitting = fits(pool)(stored.value()->backends, &left_out); !fitting.ok()) {
    spdlog::error("discovery of pool {} begins with nothing: {}", pool, fitting.error().message);
    return made;
  }
  made->feed.begin_with(stored.value()->backends, stored.value()->unix_s);
  if (is_registration(spec)) made->registrations = Registrations(stored.value()->backends, Clock::now());
  return made;
}

void Discoverer::set_sources(const model::DesiredState &configured) {
  std::vector<FollowedPtr> begin;
  std::vector<FollowedPtr> stop;
  bool changed = false;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->configured = configured;
    impl_->limits.emplace(impl_->configured);
    std::map<std::string, FollowedPtr> gone = impl_->followed;
    for (const model::Pool &pool : configured.pools) {
      if (!pool.discovery.finds()) continue;
      const auto known = gone.find(pool.name);
      if (known != gone.end() && known->second->feed.spec() == pool.discovery) {
        gone.erase(known);
        continue;
      }
      const FollowedPtr made = impl_->make_followed(pool.name, pool.discovery);
      if (known != gone.end() && is_registration(pool.discovery))
        made->registrations = known->second->registrations;
      impl_->followed[pool.name] = made;
      begin.push_back(made);
    }
    for (const auto &[pool, one] : gone) {
      stop.push_back(one);
      const auto now_followed = impl_->followed.find(pool);
      if (now_followed->second == one) impl_->followed.erase(now_followed);
    }
    for (const auto &[pool, one] : impl_->followed) {
      changed = one->feed.review(now(), impl_->fits(pool)) || changed;
      std::vector<std::string> left_out;
      if (impl_->fits(pool)(*one->feed.found(), &left_out).ok()) one->feed.set_left_out(std::move(left_out));
    }
  }
  asio::post(impl_->io, [raw = impl_.get(), begin = std::move(begin), stop = std::move(stop), changed] {
    for (const FollowedPtr &one : stop) raw->unfollow(one);
    for (const FollowedPtr &one : begin) {
      if (!raw->ending) raw->follow(one);
    }
    if (changed) raw->on_change();
  });
}

FoundPools Discoverer::found() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->found_pools();
}

std::vector<SourceReport> Discoverer::reports() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<SourceReport> reports;
  const Clock::time_point at = Clock::now();
  for (const auto &[pool, one] : impl_->followed) reports.push_back(one->feed.report(at));
  return reports;
}

namespace {

Registered not_found(const std::string &pool, const std::map<std::string, FollowedPtr> &followed) {
  if (!followed.contains(pool))
    return {Outcome::kNotFound,
            fmt::format("there is no pool \"{}\" whose backends register themselves", pool)};
  return {
      Outcome::kConflict,
      fmt::format("the backends of pool \"{}\" do not register themselves: its discovery has another type",
                  pool)};
}

// What keeps `backend` from being registered beside the others; empty: nothing.
std::string conflict(const Registrations &registrations, const FoundBackend &backend) {
  for (const FoundBackend &other : registrations.backends()) {
    if (other.name != backend.name && other.address == backend.address)
      return fmt::format("{} is registered with the address {}", other.name, format_address(other.address));
  }
  return "";
}

}  // namespace

// Uses `registrations` from now on, if they fit; `name` is the one that was asked for, and the only one that
// is believed at once: what else they have lost meanwhile is an answer like any other.
Registered Discoverer::Impl::order(Followed *one, const Registrations &registrations,
                                   const std::string &name) {
  std::vector<FoundBackend> backends = *one->feed.found();
  const auto place = std::ranges::lower_bound(backends, name, {}, &FoundBackend::name);
  const bool is_there = place != backends.end() && place->name == name;
  const FoundBackend *asked = registrations.find(name);
  if (is_there && asked != nullptr) {
    *place = *asked;
  } else if (is_there) {
    backends.erase(place);
  } else if (asked != nullptr) {
    backends.insert(place, *asked);
  }
  std::vector<std::string> left_out;
  const bool is_heartbeat = backends == *one->feed.found();
  if (const Status fitting = is_heartbeat ? Done{} : fits(one->feed.pool())(backends, &left_out);
      !fitting.ok())
    return {Outcome::kRefused, fitting.error().message};
  for (const std::string &each : left_out) {
    if (each.starts_with(name + ":") || each.starts_with(name + " ")) return {Outcome::kConflict, each};
  }
  one->registrations = registrations;
  bool changed = one->feed.note_order(std::move(backends), now(), fits(one->feed.pool()));
  if (std::vector<FoundBackend> all = registrations.backends(); all != *one->feed.found())
    changed = one->feed.note_answer({std::move(all), {}}, now(), fits(one->feed.pool())) || changed;
  return {changed ? Outcome::kTaken : Outcome::kUnchanged, changed ? "taken over" : "heard of again"};
}

// Lets `change` make the order of a pool whose backends register themselves, and tells what came of it.
// Nothing from `change` is a heartbeat: nobody has to look at anything for it.
Registered Discoverer::Impl::change_registrations(
    const std::string &pool, const std::function<std::optional<Registered>(Followed *)> &change) {
  FollowedPtr one;
  SourceState before;
  Registered registered;
  {
    const std::lock_guard lock(mutex);
    const auto found = followed.find(pool);
    if (found == followed.end() || !is_registration(found->second->feed.spec()))
      return not_found(pool, followed);
    one = found->second;
    before = one->feed.state();
    const std::optional<Registered> made = change(one.get());
    if (!made) return {Outcome::kUnchanged, "heard of again"};
    registered = *made;
  }
  tell(*one, registered.outcome == Outcome::kTaken, before);
  asio::post(io, [one] { one->wake.raise(); });
  return registered;
}

Registered Discoverer::put_registration(const std::string &pool, const FoundBackend &backend) {
  return impl_->change_registrations(pool, [&](Followed *one) -> std::optional<Registered> {
    const Clock::time_point at = Clock::now();
    if (one->feed.state() == SourceState::kOk && one->registrations.beat(backend, at)) {
      one->feed.note_heard(at);
      return std::nullopt;
    }
    Registrations next = one->registrations;
    if (const std::string why = conflict(next, backend); !why.empty())
      return Registered{Outcome::kConflict, why};
    next.put(backend, at);
    return impl_->order(one, next, backend.name);
  });
}

Registered Discoverer::remove_registration(const std::string &pool, const std::string &name) {
  return impl_->change_registrations(pool, [&](Followed *one) -> std::optional<Registered> {
    Registrations next = one->registrations;
    const bool is_kept =
        std::ranges::any_of(*one->feed.found(), [&](const auto &each) { return each.name == name; });
    if (!next.remove(name) && !is_kept)
      return Registered{Outcome::kNotFound,
                        fmt::format("no backend \"{}\" is registered in pool \"{}\"", name, pool)};
    return impl_->order(one, next, name);
  });
}

}  // namespace sluice
