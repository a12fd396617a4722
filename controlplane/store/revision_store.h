// Every change that somebody made, numbered, in SQLite: who, when, what, and the configuration that it led
// to.
#ifndef SLUICE_CONTROLPLANE_STORE_REVISION_STORE_H
#define SLUICE_CONTROLPLANE_STORE_REVISION_STORE_H

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dataplane/abi/result.h"

struct sqlite3;

namespace sluice {

/// One change.
struct Revision {
  uint64_t number = 0;  // from 1
  int64_t at_unix_ms = 0;
  std::string author;      // "ci", "uid 1000", "sluiced"
  std::string origin;      // where the author was: "192.0.2.1:40000", "uid 0 pid 77"; may be empty
  std::string action;      // "start", "reload", "apply", "rollback", "drain" ...
  std::string subject;     // what it was about: "web/b1", "revision 4", a file; may be empty
  std::string message;     // the author's own words; may be empty
  uint64_t snapshot = 0;   // that put it into force; 0: none did yet
  nlohmann::json changes;  // a list of {"path", "old", "new"}; of a configuration, what differs from before
  uint64_t configuration = 0;  // the revision whose document was wanted from then on: its own number or an
                               // earlier one
};

/// A configuration that goes unless somebody says in time that it may stay.
struct Confirmation {
  uint64_t revision = 0;
  uint64_t back_to = 0;  // the revision whose document comes back
  int64_t until_unix_s = 0;

  bool operator==(const Confirmation &) const = default;
};

/// What outlives sluiced of the configuration, beside its revisions.
struct ConfigurationRecord {
  uint64_t revision = 0;       // whose document is wanted; 0: none yet
  uint64_t file_revision = 0;  // whose document the configuration file was when it was read last; 0: never
  std::optional<Confirmation> confirmation;
};

/// One database, used by one thread and one process. Every change is on the disk when a call returns.
class RevisionStore {
 public:
  static constexpr size_t kMaxRevisions = 10'000;            // beside those whose documents are kept
  static constexpr uint64_t kMaxDocumentBytes = 256u << 20;  // of all documents; the oldest go first

  /// Opens or makes the database. The error names the file; `is_damaged` says whether it is because what the
  /// file has is no database, and not a full disk, a lack of rights or another version.
  static Result<RevisionStore> open(const std::filesystem::path &path, bool *is_damaged = nullptr);

  RevisionStore(RevisionStore &&) noexcept;
  RevisionStore &operator=(RevisionStore &&) noexcept;
  ~RevisionStore();

  /// The configuration that is wanted, and what waits for a confirmation.
  Result<ConfigurationRecord> configuration() const;

  /// Writes a revision that is not to be seen yet, and gives its number. With `document` it is a new
  /// configuration. commit() or abandon() must follow.
  Result<uint64_t> begin(const Revision &revision, std::optional<std::string_view> document);
  /// What was begun is so: it came into force with `snapshot` (0: not yet), and `record` is what is to be
  /// known of the configuration from now on.
  Status commit(uint64_t snapshot, const ConfigurationRecord &record);
  /// What was begun did not happen. Its number is given again.
  void abandon();

  /// Changes what is known of the configuration alone, as a confirmation does.
  Status keep(const ConfigurationRecord &record);

  /// The newest first, those below `before` (0: all), at most `limit`.
  Result<std::vector<Revision>> list(uint64_t before, size_t limit) const;
  /// Nothing when there is none of that number, or no longer.
  Result<std::optional<Revision>> find(uint64_t number) const;
  /// The configuration that was wanted after a revision. Nothing when it is not kept any more.
  Result<std::optional<std::string>> document_of(uint64_t number) const;
  /// How many there are.
  Result<uint64_t> count() const;
  /// The last one's number; 0: there is none.
  Result<uint64_t> newest() const;

 private:
  struct Close {
    void operator()(sqlite3 *database) const;
  };
  explicit RevisionStore(std::filesystem::path path) : path_(std::move(path)) {}

  Status prepare(bool *is_damaged);
  Status run(const char *sql) const;
  Error error(const std::string &what) const;
  Status write_record(const ConfigurationRecord &record);
  Status forget_old();

  std::filesystem::path path_;
  std::unique_ptr<sqlite3, Close> database_;
  uint64_t begun_ = 0;  // the revision that is not committed
};

}  // namespace sluice

#endif
