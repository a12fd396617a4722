#include "controlplane/sluiced/configuration_history.h"

#include <utility>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/config/document_changes.h"

namespace sluice {

Result<ConfigurationHistory> ConfigurationHistory::open(const std::filesystem::path &path) {
  Result<RevisionStore> store = RevisionStore::open(path);
  if (!store.ok() && std::filesystem::exists(path)) {
    const std::filesystem::path aside = path.native() + ".damaged";
    spdlog::error("{}; it is {} now, and another one is begun", store.error().message, aside.native());
    std::error_code fault;
    for (const char *suffix : {"-wal", "-shm", "-journal"})
      std::filesystem::remove(path.native() + suffix, fault);
    std::filesystem::rename(path, aside, fault);
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

model::DesiredState ConfigurationHistory::begin(const std::filesystem::path &file, const std::string &text,
                                                model::DesiredState of_file, int64_t now_unix_s) {
  const auto text_of = [this](uint64_t revision) {
    Result<std::optional<std::string>> found = document_of(revision);
    return found.ok() ? std::move(found).value() : std::nullopt;
  };
  uint64_t wanted = record_.revision;
  std::string action = "start";
  std::string subject = file.native();
  if (record_.confirmation && now_unix_s >= record_.confirmation->until_unix_s) {
    spdlog::warn("revision {} was not confirmed in time: back to the configuration of revision {}",
                 record_.confirmation->revision, record_.confirmation->back_to);
    wanted = record_.confirmation->back_to;
    action = "rollback";
    subject = fmt::format("revision {}, which was not confirmed", record_.confirmation->revision);
    record_.confirmation.reset();
  }
  const std::string before = text_of(record_.revision).value_or("");
  const bool is_file_as_before = record_.file_revision != 0 && text_of(record_.file_revision) == text;
  const std::optional<std::string> kept = is_file_as_before ? text_of(wanted) : std::nullopt;
  if (kept) {
    LoadedConfig loaded = load_config(*kept, fmt::format("revision {}", wanted));
    if (loaded.ok()) {
      if (wanted != record_.revision)
        begun_ = Change{action, subject, document_changes(before, *kept), *kept, wanted, false};
      if (wanted != record_.file_revision)
        spdlog::info("the configuration is that of revision {}, which did not come from {}", wanted,
                     file.native());
      if (record_.confirmation)
        wait_for_confirmation(std::chrono::seconds(record_.confirmation->until_unix_s - now_unix_s));
      document_ = *kept;
      return std::move(*loaded.state);
    }
    spdlog::error("the configuration of revision {} cannot be used any more, beginning with {}: {}", wanted,
                  file.native(), loaded.errors_to_string());
  }
  record_.confirmation.reset();
  begun_ = Change{"start", file.native(), document_changes(before, text), text, std::nullopt, true};
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
        .back_to = record_.revision,
        .until_unix_s = now_unix_ms / 1000 + terms.confirm_within->count(),
    };
  }
  return next_number_;
}

Status ConfigurationHistory::commit(uint64_t snapshot) {
  Status kept = store_ ? store_->commit(snapshot, next_record_) : Done{};
  record_ = next_record_;
  newest_ = next_number_;
  if (next_document_) document_ = std::move(*next_document_);
  next_document_.reset();
  if (next_wait_) wait_for_confirmation(*next_wait_);
  return kept;
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
  if (change.document) document_ = *change.document;
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
