#include <algorithm>
#include <set>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/discovery/backoff.h"
#include "controlplane/discovery/discoverer_impl.h"

namespace sluice {

namespace asio = boost::asio;

namespace {

using Clock = PoolFeed::Clock;

constexpr std::chrono::hours kLongWait{24};
// Between two answers of a source, however often it changes its mind: the newest one is used after it.
constexpr std::chrono::milliseconds kAnswerGap{250};

}  // namespace

// How many were found for the other pools.
size_t Discoverer::Impl::found_beside(const std::string &pool) const {
  size_t others = 0;
  for (const auto &[name, one] : followed) {
    if (name != pool) others += one->feed.found()->size();
  }
  return others;
}

// Whether the configuration has room for `backends` of `pool` beside what was found for the others.
PoolFeed::Fits Discoverer::Impl::fits(const std::string &pool) const {
  return [this, pool](const std::vector<FoundBackend> &backends, SkippedEntries *left_out) -> Status {
    return limits->fits(pool, backends, found_beside(pool), left_out);
  };
}

void Discoverer::Impl::save(const Followed &one) {
  saver.save(one.feed.pool(), {one.feed.found_unix_s(), one.feed.origin(), one.feed.found()});
}

// After the lock: says what is worth a line in the log.
void Discoverer::Impl::tell(const Followed &one, bool changed, SourceState before) {
  SourceReport report;
  {
    const std::lock_guard lock(mutex);
    if (!changed && one.feed.state() == before) return;
    report = one.feed.report(Clock::now());
  }
  const bool fine = report.state == SourceState::kOk;
  spdlog::log(fine ? spdlog::level::info : spdlog::level::warn, "discovery of pool {}: {}: {}", report.pool,
              report.source, report.text);
}

// What became of a question; when to put the next.
Clock::time_point Discoverer::Impl::note(const FollowedPtr &one, Result<Said> said) {
  bool changed = false;
  SourceState before;
  Clock::time_point next = Clock::now();
  Answer answer = said.ok() ? tidied(std::move(said.value().answer)) : Answer();
  {
    const std::lock_guard lock(mutex);
    PoolFeed &feed = one->feed;
    before = feed.state();
    if (said.ok()) {
      next += said.value().wait;
      changed = feed.note_answer(std::move(answer), now_on_both_clocks(), fits(feed.pool()));
      if (changed) save(*one);
    } else {
      feed.note_failure(said.error().message, now_on_both_clocks());
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
      changed = reviewed->feed.review(now_on_both_clocks(), fits(reviewed->feed.pool()));
      if (changed) save(*reviewed);
    }
    tell(*reviewed, changed, before);
    plan_review(reviewed);
    if (changed) on_change();
  });
}

// Whatever is raised meanwhile waits, too: the next look sees the newest there is.
asio::awaitable<void> Discoverer::Impl::rest(FollowedPtr one) {
  if (one->stopped) co_return;
  one->gap.expires_after(kAnswerGap);
  boost::system::error_code ignored;
  co_await one->gap.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

asio::awaitable<void> Discoverer::Impl::ask(FollowedPtr one) {
  while (!one->stopped) {
    Result<Said> said = co_await one->source->next();
    if (one->stopped) co_return;
    const Clock::time_point next = note(one, std::move(said));
    co_await rest(one);
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
        changed = one->feed.note_answer({one->registrations.backends(), {}}, now_on_both_clocks(),
                                        fits(one->feed.pool()));
        if (changed) save(*one);
      }
      next = std::min(next, one->registrations.next_end().value_or(next));
    }
    tell(*one, changed, before);
    plan_review(one);
    if (changed) {
      on_change();
      co_await rest(one);
    }
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
  one->gap.cancel();
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

namespace {

using Backends = std::vector<FoundBackend>;

const model::Pool *find_pool(const model::DesiredState &state, const std::string &name) {
  const auto found = std::ranges::find(state.pools, name, &model::Pool::name);
  return found == state.pools.end() ? nullptr : &*found;
}

StoredPool nothing() { return {.backends = std::make_shared<const Backends>()}; }

}  // namespace

// What the disk has of a pool, if there is room for it.
StoredPool Discoverer::Impl::stored_of(const model::Pool &pool, const FoundLimits &limits_then) {
  const auto stored = saver.load(pool.name);
  std::string fault;
  if (!stored.ok()) {
    fault = stored.error().message;
  } else if (stored.value()) {
    SkippedEntries left_out;
    const Status fitting =
        limits_then.fits(pool.name, *stored.value()->backends, found_beside(pool.name), &left_out);
    if (fitting.ok()) return *stored.value();
    fault = fitting.error().message;
  }
  if (!fault.empty()) spdlog::error("discovery of pool {} begins with nothing: {}", pool.name, fault);
  return nothing();
}

// What a pool with a source begins with: what was found before, what the configuration had, or what the disk
// has. Nobody's clients are to wait for the first answer.
StoredPool Discoverer::Impl::beginning_of(const model::Pool &pool, const FoundLimits &limits_then) {
  if (const auto before = followed.find(pool.name); before != followed.end()) {
    const PoolFeed &feed = before->second->feed;
    return {feed.found_unix_s(), feed.origin(), feed.found()};
  }
  if (const model::Pool *before = find_pool(configured, pool.name); before != nullptr) {
    auto lost = std::make_shared<const Backends>(lost_backends(*before, pool));
    if (!lost->empty()) return {now_on_both_clocks().unix_s, FoundOrigin::kConfiguration, std::move(lost)};
  }
  return stored_of(pool, limits_then);
}

FollowedPtr Discoverer::Impl::make_followed(const model::Pool &pool) {
  auto made = std::make_shared<Followed>(io, pool.name, pool.discovery);
  StoredPool beginning = beginning_of(pool, *limits);
  if (is_registration(pool.discovery)) {
    const auto before = followed.find(pool.name);
    made->registrations = before != followed.end() ? before->second->registrations
                                                   : Registrations(*beginning.backends, Clock::now());
  }
  made->feed.begin_with(std::move(beginning.backends), beginning.unix_s, beginning.origin);
  if (beginning.origin == FoundOrigin::kConfiguration) save(*made);
  return made;
}

void Discoverer::set_sources(const model::DesiredState &configured) {
  std::vector<FollowedPtr> begin;
  std::vector<FollowedPtr> stop;
  std::set<std::string> with_source;
  bool changed = false;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->limits.emplace(configured);
    std::map<std::string, FollowedPtr> gone = impl_->followed;
    for (const model::Pool &pool : configured.pools) {
      if (!pool.discovery.finds()) continue;
      with_source.insert(pool.name);
      const auto known = gone.find(pool.name);
      if (known != gone.end() && known->second->feed.spec() == pool.discovery) {
        gone.erase(known);
        continue;
      }
      const FollowedPtr made = impl_->make_followed(pool);
      impl_->followed[pool.name] = made;
      begin.push_back(made);
    }
    impl_->configured = configured;
    impl_->limits.emplace(impl_->configured);
    for (const auto &[pool, one] : gone) {
      stop.push_back(one);
      const auto now_followed = impl_->followed.find(pool);
      if (now_followed->second == one) impl_->followed.erase(now_followed);
    }
    for (const auto &[pool, one] : impl_->followed) {
      if (one->feed.review(now_on_both_clocks(), impl_->fits(pool))) {
        impl_->save(*one);
        changed = true;
      }
      SkippedEntries left_out;
      if (impl_->fits(pool)(*one->feed.found(), &left_out).ok()) one->feed.set_left_out(std::move(left_out));
    }
    impl_->saver.keep_only(std::move(with_source));
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
  FoundPools pools;
  for (const auto &[pool, one] : impl_->followed) pools.emplace(pool, one->feed.found());
  return pools;
}

FoundPools Discoverer::found_for(const model::DesiredState &configured) const {
  const std::lock_guard lock(impl_->mutex);
  const FoundLimits limits_then(configured);
  FoundPools pools;
  for (const model::Pool &pool : configured.pools) {
    if (pool.discovery.finds()) pools.emplace(pool.name, impl_->beginning_of(pool, limits_then).backends);
  }
  return pools;
}

void Discoverer::keep(const FoundPools &pools) {
  const std::lock_guard lock(impl_->mutex);
  for (const auto &[pool, backends] : pools) {
    const auto known = impl_->followed.find(pool);
    if (known == impl_->followed.end()) continue;
    const PoolFeed &feed = known->second->feed;
    if (feed.found() == backends) {
      impl_->save(*known->second);
    } else {
      impl_->saver.save(pool, {now_on_both_clocks().unix_s, FoundOrigin::kSource, backends});
    }
  }
}

std::vector<SourceReport> Discoverer::reports() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<SourceReport> reports;
  const Clock::time_point at = Clock::now();
  for (const auto &[pool, one] : impl_->followed) reports.push_back(one->feed.report(at));
  return reports;
}

}  // namespace sluice
