// What the Discoverer is made of: for its own files.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_DISCOVERER_IMPL_H
#define SLUICE_CONTROLPLANE_DISCOVERY_DISCOVERER_IMPL_H

#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "controlplane/discovery/discoverer.h"
#include "controlplane/discovery/found_saver.h"
#include "controlplane/discovery/merge.h"
#include "controlplane/discovery/registrations.h"
#include "controlplane/discovery/source.h"

namespace sluice {

inline Now now_on_both_clocks() { return {PoolFeed::Clock::now(), static_cast<int64_t>(std::time(nullptr))}; }

inline bool is_registration(const model::DiscoverySpec &spec) {
  return std::holds_alternative<model::RegistrationSource>(spec.kind);
}

// A source that is followed: by the coroutine that runs for it, which keeps it alive.
struct Followed {
  Followed(boost::asio::io_context &io, std::string pool, const model::DiscoverySpec &spec)
      : feed(std::move(pool), spec), wake(io), gap(io), review(io) {}

  PoolFeed feed;                // guarded by the lock
  Registrations registrations;  // guarded by the lock
  Signal wake;                  // what follows: on the loop's thread
  boost::asio::steady_timer gap;
  boost::asio::steady_timer review;
  std::unique_ptr<Source> source;  // nullptr: registrations
  bool stopped = false;
};
using FollowedPtr = std::shared_ptr<Followed>;

struct Discoverer::Impl {
  using Clock = PoolFeed::Clock;

  Impl(const DiscovererOptions &options, OnChange changed)
      : on_change(std::move(changed)), random(options.seed), saver(options.directory) {}

  OnChange on_change;
  TlsContexts tls;
  boost::asio::io_context io{1};
  std::unique_ptr<CurlTransfers> curl;
  std::optional<SourceContext> context;
  std::mt19937_64 random;
  size_t running = 0;  // coroutines
  bool ending = false;
  std::thread thread;

  mutable std::mutex mutex;  // guards what follows
  model::DesiredState configured;
  std::optional<FoundLimits> limits;  // of `configured`
  std::map<std::string, FollowedPtr> followed;

  FoundSaver saver;  // last: writes what is left

  void follow(const FollowedPtr &one);
  void unfollow(const FollowedPtr &one);
  void end();
  boost::asio::awaitable<void> run(FollowedPtr one);
  boost::asio::awaitable<void> rest(FollowedPtr one);
  boost::asio::awaitable<void> ask(FollowedPtr one);
  boost::asio::awaitable<void> expire(FollowedPtr one);
  Clock::time_point note(const FollowedPtr &one, Result<Said> said);
  void plan_review(const FollowedPtr &one);
  void tell(const Followed &one, bool changed, SourceState before);

  // With the lock held.
  FollowedPtr make_followed(const model::Pool &pool);
  StoredPool beginning_of(const model::Pool &pool, const FoundLimits &limits_then);
  StoredPool stored_of(const model::Pool &pool, const FoundLimits &limits_then);
  size_t found_beside(const std::string &pool) const;
  void save(const Followed &one);
  PoolFeed::Fits fits(const std::string &pool) const;
  Registered change_registrations(const std::string &pool,
                                  const std::function<std::optional<Registered>(Followed *)> &change);
  Registered order(Followed *one, const Registrations &registrations, const std::string &name);
};

}  // namespace sluice

#endif
