// Backends that say themselves that they are there.
#include <algorithm>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/post.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/discovery/discoverer_impl.h"

namespace sluice {

using Clock = PoolFeed::Clock;
using Outcome = Registered::Outcome;

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
  // One that was never registered makes way: it was kept from before.
  if (asked != nullptr) {
    std::erase_if(backends, [asked](const FoundBackend &other) {
      return other.name != asked->name && other.address == asked->address;
    });
  }
  const bool is_heartbeat = backends == *one->feed.found();
  SkippedEntries left_out;
  const Status fitting = is_heartbeat ? Done{} : fits(one->feed.pool())(backends, &left_out);
  if (!fitting.ok()) return {Outcome::kRefused, fitting.error().message};
  if (asked != nullptr && !is_heartbeat) {
    if (const std::string why = limits->conflict(one->feed.pool(), *asked); !why.empty())
      return {Outcome::kConflict, why};
  }
  one->registrations = registrations;
  bool changed = one->feed.note_order(std::move(backends), now_on_both_clocks(), fits(one->feed.pool()));
  if (std::vector<FoundBackend> all = registrations.backends(); all != *one->feed.found())
    changed =
        one->feed.note_answer({std::move(all), {}}, now_on_both_clocks(), fits(one->feed.pool())) || changed;
  if (changed) save(*one);
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
  boost::asio::post(io, [one] { one->wake.raise(); });
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
