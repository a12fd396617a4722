// Which text is the configuration, and by which changes it came to be that.
#ifndef SLUICE_CONTROLPLANE_SLUICED_CONFIGURATION_HISTORY_H
#define SLUICE_CONTROLPLANE_SLUICED_CONFIGURATION_HISTORY_H

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/api/control.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/store/revision_store.h"

namespace sluice {

/// Kept by a RevisionStore, so that a sluiced that starts goes on with what was applied by the API. What was
/// written last counts: the file, when it is another one than it was when it was read last, and the API's
/// configuration otherwise.
class ConfigurationHistory {
 public:
  using Clock = std::chrono::steady_clock;

  /// Remembers nothing.
  ConfigurationHistory() = default;
  /// Reads what is known. A damaged database is put aside, and another one begun; fails when that fails, too.
  static Result<ConfigurationHistory> open(const std::filesystem::path &path);

  /// The configuration to begin with, given the file's text and what it says.
  model::DesiredState begin(const std::filesystem::path &file, const std::string &text,
                            model::DesiredState of_file, int64_t now_unix_s);
  /// The same when the file is of no use: the configuration of before, if it still is one.
  std::optional<model::DesiredState> begin_without_file(int64_t now_unix_s);
  /// What begin() decided is in force with this snapshot: a revision, if it is another one than before.
  void note_begun(const std::filesystem::path &file, uint64_t snapshot, int64_t now_unix_ms);

  /// The configuration's text.
  const std::string &document() const { return document_; }
  /// The revision whose text that is; 0: none.
  uint64_t configuration() const { return record_.revision; }
  /// The last change's number.
  uint64_t newest() const { return newest_; }
  /// Whether the file was something else than the configuration when it was read last.
  bool differs_from_file() const { return record_.revision != record_.file_revision; }

  struct Change {
    std::string action;
    std::string subject;
    nlohmann::json changes;
    std::optional<std::string> document;    // another configuration
    std::optional<uint64_t> configuration;  // whose text that is, if an earlier revision's
    bool is_of_file = false;                // it is what the file says
  };

  /// Writes a change that is about to be made; commit() or abandon() must follow. Fails when it cannot be
  /// kept.
  Result<uint64_t> begin_change(const Change &change, const api::Terms &terms, int64_t now_unix_ms);
  /// It was made. Fails when that cannot be kept.
  Status commit(uint64_t snapshot);
  void abandon();

  /// Makes a note of a change that was made. 0 when it cannot be kept: the log says why.
  uint64_t note(const Change &change, const api::Terms &terms, uint64_t snapshot, int64_t now_unix_ms);

  /// The file says what is the configuration anyway.
  void note_file_agrees();
  /// The configuration is in no revision, since that could not be written: a restart would not find it.
  bool is_unsaved() const { return is_unsaved_; }

  const std::optional<Confirmation> &confirmation() const { return record_.confirmation; }
  /// How long it is waited for; nothing while none is.
  std::optional<std::chrono::seconds> confirmation_left() const;
  Status confirm();

  Result<std::vector<Revision>> revisions(uint64_t before, size_t limit) const;
  Result<std::optional<Revision>> revision(uint64_t number) const;
  Result<std::optional<std::string>> document_of(uint64_t number) const;

 private:
  void wait_for_confirmation(std::chrono::seconds time);
  void save_late(int64_t now_unix_ms);
  std::optional<model::DesiredState> begin_kept(int64_t now_unix_s);

  std::optional<RevisionStore> store_;
  ConfigurationRecord record_;
  std::string document_;
  uint64_t newest_ = 0;
  bool is_unsaved_ = false;
  Clock::time_point confirm_until_{};

  // Of begin(), for note_begun().
  std::optional<Change> begun_;

  // Between begin_change() and commit().
  ConfigurationRecord next_record_;
  std::optional<std::string> next_document_;
  std::optional<std::chrono::seconds> next_wait_;
  uint64_t next_number_ = 0;
};

}  // namespace sluice

#endif
