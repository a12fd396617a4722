// Backends that the pools' sources find: they come and go without the operator.
#include <algorithm>
#include <functional>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/discovery/merge.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kFirstFoundBackoff{1};
constexpr std::chrono::seconds kLongestFoundBackoff{60};
constexpr size_t kMostRefused = 4;  // pools that are tried one by one in vain, at a time: each is a whole try

size_t size_of(const FoundPools &pools, const std::string &pool) {
  const auto found = pools.find(pool);
  return found == pools.end() ? 0 : found->second->size();
}

}  // namespace

// What is found for the pools of `configured`. Of those whose news were refused and need not be tried again
// by `now`: what is used meanwhile.
FoundPools Reconciler::wanted_found(const model::DesiredState &configured, Clock::time_point now) const {
  if (discoverer_ == nullptr) return {};
  FoundPools wanted = discoverer_->found_for(configured);
  for (const auto &[pool, refused] : refused_found_) {
    const auto found = wanted.find(pool);
    if (found == wanted.end() || found->second != refused.backends || now >= refused.next_try) continue;
    const auto used = used_found_.find(pool);
    found->second =
        used == used_found_.end() ? std::make_shared<const std::vector<FoundBackend>>() : used->second;
  }
  return wanted;
}

// Begins with what was found before, if there is room for it.
void Reconciler::begin_discovery() {
  FoundPools found;
  if (discoverer_ != nullptr) {
    discoverer_->set_sources(configured_);
    found = discoverer_->found();
  }
  Result<model::DesiredState> merged = wanted_state(configured_, found);
  if (merged.ok()) {
    desired_ = std::move(merged).value();
    used_found_ = std::move(found);
  } else {
    spdlog::error("beginning without found backends: {}", merged.error().message);
  }
}

// What was found before is too much now, and nothing is in force: without the largest pools' at first. They
// are tried again soon.
void Reconciler::begin_with_less(api::ChangeResult *applied) {
  std::vector<std::string> pools;
  for (const auto &[pool, backends] : used_found_) {
    if (!backends->empty()) pools.push_back(pool);
  }
  std::ranges::stable_sort(pools, std::greater<>{},
                           [&](const auto &pool) { return size_of(used_found_, pool); });
  const FoundPools wanted = used_found_;
  for (const std::string &pool : pools) {
    if (applied->outcome != Outcome::kRefused) return;
    note_refused(pool, wanted, applied->message);
    used_found_[pool] = std::make_shared<const std::vector<FoundBackend>>();
    Result<model::DesiredState> less = wanted_state(configured_, used_found_);
    if (!less.ok()) continue;
    desired_ = std::move(less).value();
    *applied = apply(desired_, &observed_);
  }
  if (applied->outcome == Outcome::kRefused) used_found_ = wanted;
}

std::vector<std::string> Reconciler::changed_pools(const FoundPools &wanted) const {
  std::vector<std::string> changed;
  for (const auto &[pool, backends] : wanted) {
    const auto used = used_found_.find(pool);
    if (used == used_found_.end() ? !backends->empty() : *used->second != *backends) changed.push_back(pool);
  }
  return changed;
}

api::ChangeResult Reconciler::try_found(const FoundPools &pools) {
  Result<model::DesiredState> next = wanted_state(configured_, pools);
  if (!next.ok()) return {.outcome = Outcome::kRefused, .message = next.error().message};
  api::ChangeResult applied =
      next.value() == desired_ ? unchanged("nothing to change") : change_members(std::move(next).value());
  if (applied.outcome == Outcome::kRefused) {
    noted_ = true;  // what is in force and what is wanted agree again
  } else {
    note_used(pools);
  }
  return applied;
}

api::ChangeResult Reconciler::apply_found() {
  found_noted_ = false;
  const FoundPools wanted = wanted_found(configured_, Clock::now());
  api::ChangeResult applied = try_found(wanted);
  return applied.outcome == Outcome::kRefused ? try_pool_by_pool(wanted, applied) : applied;
}

// One pool's news must not keep the others' from being used: each by itself, those first that were refused
// least often, and of them the smallest, since what is refused is mostly too much.
api::ChangeResult Reconciler::try_pool_by_pool(const FoundPools &wanted, const api::ChangeResult &refused) {
  std::vector<std::string> changed = changed_pools(wanted);
  std::ranges::stable_sort(changed, std::less<>{}, [&](const auto &pool) {
    const auto refused_before = refused_found_.find(pool);
    const auto backoff =
        refused_before == refused_found_.end() ? std::chrono::seconds(0) : refused_before->second.backoff;
    return std::pair(backoff, size_of(wanted, pool));
  });
  if (changed.empty()) spdlog::error("found backends are not used: {}", refused.message);
  api::ChangeResult result = refused;
  size_t in_vain = 0;
  for (const std::string &pool : changed) {
    FoundPools with_it = used_found_;
    with_it[pool] = wanted.at(pool);
    if (in_vain == kMostRefused) {
      postpone(pool, wanted, refused.message);
      continue;
    }
    const bool is_alone = changed.size() == 1;
    const api::ChangeResult applied = is_alone ? refused : try_found(with_it);
    if (applied.outcome == Outcome::kRefused) {
      in_vain++;
      note_refused(pool, wanted, applied.message);
    } else {
      result = applied;
    }
  }
  return result;
}

// Not tried by itself yet, and soon.
void Reconciler::postpone(const std::string &pool, const FoundPools &wanted, const std::string &why) {
  RefusedFound &refused = refused_found_[pool];
  refused.backends = wanted.at(pool);
  refused.why = why;
  refused.next_try = Clock::now() + kFirstFoundBackoff;
}

// What the disk has is what is used, or a restart would begin with what was refused.
void Reconciler::note_refused(const std::string &pool, const FoundPools &wanted, const std::string &why) {
  spdlog::error("found backends of pool {} are not used: {}", pool, why);
  RefusedFound &refused = refused_found_[pool];
  refused.backends = wanted.at(pool);
  refused.why = why;
  refused.backoff = std::clamp(refused.backoff * 2, kFirstFoundBackoff, kLongestFoundBackoff);
  refused.next_try = Clock::now() + refused.backoff;
  const auto used = used_found_.find(pool);
  if (used != used_found_.end() && !used->second->empty()) discoverer_->keep({{pool, used->second}});
}

void Reconciler::note_used(const FoundPools &pools) {
  used_found_ = pools;
  std::erase_if(refused_found_, [&](const auto &each) {
    const auto &[pool, refused] = each;
    const auto used = pools.find(pool);
    if (used == pools.end()) return true;
    const FoundPools found = discoverer_->found();
    const auto now_found = found.find(pool);
    if (now_found == found.end() || used->second != now_found->second) return false;
    discoverer_->keep({{pool, used->second}});
    return true;
  });
}

void Reconciler::note_found_retry(Clock::time_point now) {
  for (const auto &[pool, refused] : refused_found_) found_noted_ = found_noted_ || now >= refused.next_try;
}

namespace {

api::ChangeResult without_change(const Registered &registered) {
  using From = Registered::Outcome;
  using To = api::ChangeResult::Outcome;
  switch (registered.outcome) {
    case From::kNotFound:
      return {.outcome = To::kNotFound, .message = registered.message};
    case From::kConflict:
      return {.outcome = To::kConflict, .message = registered.message};
    case From::kRefused:
      return {.outcome = To::kRefused, .message = registered.message};
    case From::kTaken:
    case From::kUnchanged:
      break;
  }
  return {.outcome = To::kUnchanged, .message = registered.message};
}

const Registered kNoDiscovery{Registered::Outcome::kNotFound, "no pool has a source of backends"};

}  // namespace

// A heartbeat is answered without a look at the rest.
api::ChangeResult Reconciler::after(const std::string &pool, const Registered &registered) {
  if (registered.outcome == Registered::Outcome::kUnchanged) return unchanged(registered.message);
  if (registered.outcome != Registered::Outcome::kTaken) return without_change(registered);
  reconnect();
  const api::ChangeResult applied = apply_found();
  const auto refused = refused_found_.find(pool);
  if (refused == refused_found_.end()) return applied;
  return {.outcome = Outcome::kRefused, .message = refused->second.why};
}

api::ChangeResult Reconciler::put_registration(const std::string &pool, const FoundBackend &backend) {
  return after(pool, discoverer_ == nullptr ? kNoDiscovery : discoverer_->put_registration(pool, backend));
}

api::ChangeResult Reconciler::remove_registration(const std::string &pool, const std::string &name) {
  return after(pool, discoverer_ == nullptr ? kNoDiscovery : discoverer_->remove_registration(pool, name));
}

std::vector<SourceReport> Reconciler::sources() const {
  if (discoverer_ == nullptr) return {};
  std::vector<SourceReport> reports = discoverer_->reports();
  for (SourceReport &report : reports) {
    const auto refused = refused_found_.find(report.pool);
    if (refused == refused_found_.end()) continue;
    const size_t used = size_of(used_found_, report.pool);
    report.state = SourceState::kRefused;
    report.backends = used;
    report.text =
        fmt::format("what was found, {} backend{}, cannot be used: {}; {} of before {} kept",
                    refused->second.backends->size(), refused->second.backends->size() == 1 ? "" : "s",
                    refused->second.why, used == 0 ? "none" : std::to_string(used), used == 1 ? "is" : "are");
  }
  return reports;
}

}  // namespace sluice
