#include "controlplane/sluiced/configuration_history.h"

#include <algorithm>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/config/document_changes.h"

namespace sluice {

namespace {

constexpr std::chrono::hours kLongestConfirmation{24};

// `path`, or the first of PATH.2, PATH.3 ... that is not there.
std::filesystem::path unused_name(const std::filesystem::path &path) {
  std::filesystem::path name = path;
  for (int i = 2; std::filesystem::exists(name); i++) name = fmt::format("{}.{}", path.native(), i);
  return name;
}

}  // namespace

Result<ConfigurationHistory> ConfigurationHistory::open(const std::filesystem::path &path) {
  bool is_damaged = false;
  Result<RevisionStore> store = RevisionStore::open(path, &is_damaged);
  if (!store.ok() && is_damaged) {
    const std::filesystem::path aside = unused_name(path.native() + ".damaged");
    spdlog::error("{}; it is {} now, and another one is begun", store.error().message, aside.native());
    std::error_code fault;
    for (const char *suffix : {"-wal", "-shm", "-journal", ""})
      std::filesystem::rename(path.native() + suffix, aside.native() + suffix, fault);
    store = RevisionStore::open(path);
  }
  if (!store.ok()) return store.error();
  ConfigurationHistory history;
  history.store_ = std::move(store).value();
  Result<ConfigurationRecord> record = history.store_->configuration();
  if (!record.ok()) return record.error();
  history.record_ = std::move(record).value();
  const Result<uint64_t> newest = history.store_->newest();
  if (!newest.ok()) return newest.error();
  history.newest_ = newest.value();
  return history;
}

// The configuration of before, or of before the one that was not confirmed in time. Nothing when there is
// none that can be used.
std::optional<model::DesiredState> ConfigurationHistory::begin_kept(int64_t now_unix_s) {
  uint64_t wanted = record_.revision;
  std::optional<Change> change;
  const Result<std::optional<std::string>> before = document_of(record_.revision);
  if (record_.confirmation && now_unix_s >= record_.confirmation->until_unix_s) {
    spdlog::warn("revision {} was not confirmed in time: back to the configuration of revision {}",
                 record_.confirmation->revision, record_.confirmation->back_to);
    wanted = record_.confirmation->back_to;
    change =
        Change{.action = "rollback",
               .subject = fmt::format("revision {}, which was not confirmed", record_.confirmation->revision),
               .changes = {},
               .configuration = wanted};
  }
  const Result<std::optional<std::string>> kept = document_of(wanted);
  if (!kept.ok() || !kept.value()) return std::nullopt;
  LoadedConfig loaded = load_config(*kept.value(), fmt::format("revision {}", wanted));
  if (!loaded.ok()) {
    spdlog::error("the configuration of revision {} cannot be used any more: {}", wanted,
                  loaded.errors_to_string());
    return std::nullopt;
  }
  document_ = *kept.value();
  if (change) {
    record_.confirmation.reset();
    change->document = document_;
    change->changes = document_changes(before.ok() ? before.value().value_or("") : "", document_);
    begun_ = std::move(change);
  } else if (record_.confirmation) {
    // A clock that was set meanwhile makes no trial longer than one can be.
    const std::chrono::seconds left(record_.confirmation->until_unix_s - now_unix_s);
    wait_for_confirmation(std::min<std::chrono::seconds>(left, kLongestConfirmation));
  }
  if (wanted != record_.file_revision) spdlog::info("the configuration is that of revision {}", wanted);
  return std::move(*loaded.state);
}

std::optional<model::DesiredState> ConfigurationHistory::begin_without_file(int64_t now_unix_s) {
  return begin_kept(now_unix_s);
}

model::DesiredState ConfigurationHistory::begin(const std::filesystem::path &file, const std::string &text,
                                                model::DesiredState of_file, int64_t now_unix_s) {
  const Result<std::optional<std::string>> file_before = document_of(record_.file_revision);
  if (file_before.ok() && file_before.value() == text) {
    if (auto kept = begin_kept(now_unix_s)) return std::move(*kept);
  }
  const Result<std::optional<std::string>> before = document_of(record_.revision);
  record_.confirmation.reset();
  begun_ = Change{.action = "start",
                  .subject = file.native(),
                  .changes = document_changes(before.ok() ? before.value().value_or("") : "", text),
                  .document = text,
                  .is_of_file = true};
  document_ = text;
  return of_file;
}

void ConfigurationHistory::note_begun(const std::filesystem::path &file, uint64_t snapshot,
                                      int64_t now_unix_ms) {
  if (!begun_) return;
  const Change change = *std::exchange(begun_, std::nullopt);
  note(change, {.origin = file.native()}, snapshot, now_unix_ms);
}

Result<uint64_t> ConfigurationHistory::begin_change(const Change &change, const api::Terms &terms,
                                                    int64_t now_unix_ms) {
  save_late(now_unix_ms);
  Revision revision{.at_unix_ms = now_unix_ms,
                    .author = terms.author,
                    .origin = terms.origin,
                    .action = change.action,
                    .subject = change.subject,
                    .message = terms.message,
                    .changes = change.changes,
                    .configuration = change.configuration.value_or(record_.revision)};
  next_number_ = newest_ + 1;
  if (store_) {
    std::optional<std::string_view> document;
    if (change.document && !change.configuration) document = *change.document;
    const Result<uint64_t> begun = store_->begin(revision, document);
    if (!begun.ok()) return begun.error();
    next_number_ = begun.value();
  }
  next_record_ = record_;
  next_document_ = change.document;
  next_wait_.reset();
  if (!change.document) return next_number_;
  next_record_.revision = change.configuration.value_or(next_number_);
  if (change.is_of_file) next_record_.file_revision = next_record_.revision;
  next_record_.confirmation.reset();
  if (terms.confirm_within) {
    next_wait_ = *terms.confirm_within;
    next_record_.confirmation = Confirmation{
        .revision = next_number_,
        .back_to = record_.confirmation ? record_.confirmation->back_to : record_.revision,
        .until_unix_s = now_unix_ms / 1000 + terms.confirm_within->count(),
    };
  }
  return next_number_;
}

Status ConfigurationHistory::commit(uint64_t snapshot) {
  Status kept = store_ ? store_->commit(snapshot, next_record_) : Done{};
  if (kept.ok()) {
    record_ = next_record_;
    newest_ = next_number_;
    is_unsaved_ = is_unsaved_ && !next_document_;
  } else {
    record_.confirmation = next_record_.confirmation;  // back to what is kept
    is_unsaved_ = is_unsaved_ || next_document_.has_value();
  }
  if (next_document_) document_ = std::move(*next_document_);
  next_document_.reset();
  if (next_wait_) wait_for_confirmation(*next_wait_);
  return kept;
}

// What could not be written when it became the configuration.
void ConfigurationHistory::save_late(int64_t now_unix_ms) {
  if (!is_unsaved_ || !store_) return;
  const Revision revision{.at_unix_ms = now_unix_ms,
                          .author = "sluiced",
                          .action = "saved-late",
                          .subject = {},
                          .message = "it could not be written when it became the configuration",
                          .changes = nlohmann::json::array()};
  const Result<uint64_t> begun = store_->begin(revision, document_);
  if (!begun.ok()) return;
  ConfigurationRecord record = record_;
  record.revision = begun.value();
  if (!store_->commit(0, record).ok()) return;
  record_ = record;
  newest_ = begun.value();
  is_unsaved_ = false;
}

void ConfigurationHistory::note_file_agrees() {
  if (record_.file_revision == record_.revision) return;
  ConfigurationRecord agreed = record_;
  agreed.file_revision = record_.revision;
  const Status kept = store_ ? store_->keep(agreed) : Done{};
  if (!kept.ok())
    return spdlog::error("a restart would take the file for another one: {}", kept.error().message);
  record_ = agreed;
}

void ConfigurationHistory::abandon() {
  if (store_) store_->abandon();
  next_document_.reset();
}

uint64_t ConfigurationHistory::note(const Change &change, const api::Terms &terms, uint64_t snapshot,
                                    int64_t now_unix_ms) {
  const Result<uint64_t> begun = begin_change(change, terms, now_unix_ms);
  const Status kept = begun.ok() ? commit(snapshot) : Status(begun.error());
  if (kept.ok()) return begun.value();
  spdlog::error("a change is in no revision ({} {} by {}): {}", change.action, change.subject, terms.author,
                kept.error().message);
  if (change.document && !begun.ok()) {
    document_ = *change.document;
    is_unsaved_ = true;
  }
  return 0;
}

void ConfigurationHistory::wait_for_confirmation(std::chrono::seconds time) {
  confirm_until_ = Clock::now() + time;
}

std::optional<std::chrono::seconds> ConfigurationHistory::confirmation_left() const {
  if (!record_.confirmation) return std::nullopt;
  return std::chrono::ceil<std::chrono::seconds>(confirm_until_ - Clock::now());
}

Status ConfigurationHistory::confirm() {
  ConfigurationRecord confirmed = record_;
  confirmed.confirmation.reset();
  if (store_) {
    if (Status kept = store_->keep(confirmed); !kept.ok()) return kept;
  }
  record_ = confirmed;
  return Done{};
}

Result<std::vector<Revision>> ConfigurationHistory::revisions(uint64_t before, size_t limit) const {
  if (!store_) return std::vector<Revision>();
  return store_->list(before, limit);
}

Result<std::optional<Revision>> ConfigurationHistory::revision(uint64_t number) const {
  if (!store_) return std::optional<Revision>();
  return store_->find(number);
}

Result<std::optional<std::string>> ConfigurationHistory::document_of(uint64_t number) const {
  if (!store_ || number == 0) return std::optional<std::string>();
  return store_->document_of(number);
}

}  // namespace sluice
