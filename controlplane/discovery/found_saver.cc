#include "controlplane/discovery/found_saver.h"

#include <utility>

#include <spdlog/spdlog.h>

namespace sluice {

namespace {

constexpr std::chrono::milliseconds kSaveDelay{1000};
constexpr std::chrono::milliseconds kRetryDelay{10'000};

}  // namespace

FoundSaver::FoundSaver(std::filesystem::path directory)
    : store_(std::move(directory)), delay_(kSaveDelay), thread_([this] { run(); }) {}

FoundSaver::~FoundSaver() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  work_.notify_all();
  thread_.join();
}

void FoundSaver::save(const std::string &pool, StoredPool stored) {
  {
    const std::lock_guard lock(mutex_);
    unsaved_.insert_or_assign(pool, std::move(stored));
  }
  work_.notify_all();
}

void FoundSaver::keep_only(std::set<std::string> pools) {
  {
    const std::lock_guard lock(mutex_);
    kept_ = std::move(pools);
  }
  work_.notify_all();
}

Result<std::optional<StoredPool>> FoundSaver::load(const std::string &pool) {
  {
    const std::lock_guard lock(mutex_);
    for (const Unsaved *newer : {&unsaved_, &writing_}) {
      if (const auto found = newer->find(pool); found != newer->end()) return std::optional(found->second);
    }
  }
  const std::lock_guard files_lock(files_);
  return store_.load(pool);
}

void FoundSaver::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return ending_ || !unsaved_.empty() || kept_; });
    work_.wait_for(lock, delay_, [this] { return ending_; });
    const bool is_last = ending_;
    writing_ = std::exchange(unsaved_, {});
    const auto kept = std::exchange(kept_, std::nullopt);
    lock.unlock();
    Unsaved failed = write(writing_);  // others only read it
    put_aside(kept);
    lock.lock();
    writing_.clear();
    delay_ = failed.empty() ? kSaveDelay : kRetryDelay;
    unsaved_.merge(failed);  // but not over what is newer
    if (is_last) return;
  }
}

// What could not be written.
FoundSaver::Unsaved FoundSaver::write(const Unsaved &unsaved) const {
  Unsaved failed;
  std::string why;
  for (const auto &[pool, stored] : unsaved) {
    const Status saved = store_.save(pool, stored);
    if (saved.ok()) continue;
    why = saved.error().message;
    failed.emplace(pool, stored);
  }
  if (!failed.empty())
    spdlog::error("what was found for {} pools is not saved, and a restart of sluiced would not find it: {}",
                  failed.size(), why);
  return failed;
}

void FoundSaver::put_aside(const std::optional<std::set<std::string>> &pools) {
  if (!pools) return;
  const std::lock_guard files_lock(files_);
  const Status kept = store_.keep_only(*pools, std::filesystem::file_time_type::clock::now());
  if (!kept.ok()) spdlog::error("{}", kept.error().message);
}

}  // namespace sluice
