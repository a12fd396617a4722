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
  const std::lock_guard files_lock(files_);  // what is being written is there afterwards
  {
    const std::lock_guard lock(mutex_);
    const auto unsaved = unsaved_.find(pool);
    if (unsaved != unsaved_.end()) return std::optional(unsaved->second);
  }
  return store_.load(pool);
}

void FoundSaver::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return ending_ || !unsaved_.empty() || kept_; });
    work_.wait_for(lock, delay_, [this] { return ending_; });
    const bool is_last = ending_;
    lock.unlock();
    {
      const std::lock_guard files_lock(files_);
      lock.lock();
      Unsaved unsaved = std::exchange(unsaved_, {});
      const auto kept = std::exchange(kept_, std::nullopt);
      lock.unlock();
      Unsaved failed = write(std::move(unsaved), kept);
      lock.lock();
      delay_ = failed.empty() ? kSaveDelay : kRetryDelay;
      unsaved_.merge(failed);  // but not over what is newer
    }
    if (is_last) return;
  }
}

// What could not be written.
FoundSaver::Unsaved FoundSaver::write(Unsaved unsaved, const std::optional<std::set<std::string>> &pools) {
  Unsaved failed;
  for (auto &[pool, stored] : unsaved) {
    const Status saved = store_.save(pool, stored);
    if (saved.ok()) continue;
    spdlog::error("{}; a restart of sluiced would not find what was found", saved.error().message);
    failed.emplace(pool, std::move(stored));
  }
  if (!pools) return failed;
  const Status kept = store_.keep_only(*pools, std::filesystem::file_time_type::clock::now());
  if (!kept.ok()) spdlog::error("{}", kept.error().message);
  return failed;
}

}  // namespace sluice
