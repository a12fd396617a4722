#include "controlplane/store/revision_store.h"

#include <utility>

#include <spdlog/fmt/fmt.h>
#include <sqlite3.h>

namespace sluice {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

constexpr const char *kSchema = R"sql(
CREATE TABLE revisions (
  number INTEGER PRIMARY KEY,
  at_unix_ms INTEGER NOT NULL,
  author TEXT NOT NULL,
  origin TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  message TEXT NOT NULL,
  snapshot INTEGER NOT NULL,
  changes TEXT NOT NULL,
  configuration INTEGER NOT NULL
);
CREATE TABLE documents (revision INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE wanted (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  revision INTEGER NOT NULL,
  file_revision INTEGER NOT NULL,
  confirm_revision INTEGER NOT NULL,
  confirm_back_to INTEGER NOT NULL,
  confirm_until_unix_s INTEGER NOT NULL
);
INSERT INTO wanted VALUES (1, 0, 0, 0, 0, 0);
)sql";

constexpr const char *kColumns =
    "number, at_unix_ms, author, origin, action, subject, message, snapshot, changes, configuration";

// One prepared statement, for the length of a call.
class Statement {
 public:
  Statement(sqlite3 *database, const std::string &sql) : database_(database) {
    is_good_ = sqlite3_prepare_v2(database, sql.c_str(), static_cast<int>(sql.size()), &statement_,
                                  nullptr) == SQLITE_OK;
  }
  Statement(const Statement &) = delete;
  Statement &operator=(const Statement &) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement &bind(uint64_t number) { return bind(static_cast<int64_t>(number)); }
  Statement &bind(int64_t number) {
    if (is_good_) is_good_ = sqlite3_bind_int64(statement_, ++bound_, number) == SQLITE_OK;
    return *this;
  }
  // `text` must live as long as the statement.
  Statement &bind(std::string_view text) {
    if (is_good_)
      is_good_ = sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_STATIC,
                                     SQLITE_UTF8) == SQLITE_OK;
    return *this;
  }

  // Whether there is a row (or one more); false also after a fault: ok() tells.
  bool step() {
    if (!is_good_) return false;
    const int result = sqlite3_step(statement_);
    is_good_ = result == SQLITE_ROW || result == SQLITE_DONE;
    return result == SQLITE_ROW;
  }
  bool ok() const { return is_good_; }

  uint64_t number(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
  }
  std::string text(int column) const {
    const void *bytes = sqlite3_column_blob(statement_, column);
    const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return bytes == nullptr ? std::string() : std::string(static_cast<const char *>(bytes), size);
  }

 private:
  sqlite3 *database_;
  sqlite3_stmt *statement_ = nullptr;
  int bound_ = 0;
  bool is_good_ = false;
};

Revision read_row(const Statement &row) {
  return {.number = row.number(0),
          .at_unix_ms = static_cast<int64_t>(row.number(1)),
          .author = row.text(2),
          .origin = row.text(3),
          .action = row.text(4),
          .subject = row.text(5),
          .message = row.text(6),
          .snapshot = row.number(7),
          .changes = json::parse(row.text(8), nullptr, false),
          .configuration = row.number(9)};
}

}  // namespace

void RevisionStore::Close::operator()(sqlite3 *database) const { sqlite3_close_v2(database); }

RevisionStore::RevisionStore(RevisionStore &&) noexcept = default;
RevisionStore &RevisionStore::operator=(RevisionStore &&) noexcept = default;
RevisionStore::~RevisionStore() = default;

Error RevisionStore::error(const std::string &what) const {
  return Error{fmt::format("{} {}: {}", path_.native(), what,
                           database_ == nullptr ? "out of memory" : sqlite3_errmsg(database_.get()))};
}

Result<RevisionStore> RevisionStore::open(const std::filesystem::path &path, bool *is_damaged) {
  bool ignored = false;
  bool *damaged = is_damaged == nullptr ? &ignored : is_damaged;
  *damaged = false;
  RevisionStore store(path);
  sqlite3 *database = nullptr;
  const int opened = sqlite3_open_v2(
      path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  store.database_.reset(database);
  if (opened != SQLITE_OK) return store.error("cannot be opened");
  if (Status prepared = store.prepare(damaged); !prepared.ok()) {
    const int code = sqlite3_errcode(store.database_.get());
    *damaged = *damaged || code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
    return prepared.error();
  }
  return store;
}

Status RevisionStore::prepare(bool *is_damaged) {
  // The state directory is locked: nobody else waits for this file. FULL: a change that was answered is there
  // after a power failure.
  if (Status set =
          run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;");
      !set.ok())
    return set;
  uint64_t version = 0;
  {
    Statement ask(database_.get(), "PRAGMA user_version");
    if (ask.step()) version = ask.number(0);
    if (!ask.ok()) return error("cannot be read");
  }
  if (version == kVersion) {
    Statement check(database_.get(), "PRAGMA quick_check(1)");
    if (check.step() && check.text(0) == "ok") return Done{};
    *is_damaged = check.ok();  // it could be asked, and this is the answer
    return error("is damaged");
  }
  if (version != 0)
    return Error{fmt::format("{} is of version {}, not {}", path_.native(), version, kVersion)};
  return run(fmt::format("BEGIN; {} PRAGMA user_version = {}; COMMIT;", kSchema, kVersion).c_str());
}

Status RevisionStore::run(const char *sql) const {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return Done{};
  Error failed = error("cannot be written");
  if (sqlite3_get_autocommit(database_.get()) == 0)
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  return failed;
}

Result<ConfigurationRecord> RevisionStore::configuration() const {
  Statement row(database_.get(),
                "SELECT revision, file_revision, confirm_revision, confirm_back_to, confirm_until_unix_s "
                "FROM wanted");
  if (!row.step()) return error("cannot be read");
  ConfigurationRecord record{.revision = row.number(0), .file_revision = row.number(1), .confirmation = {}};
  if (row.number(2) != 0) {
    record.confirmation = {.revision = row.number(2),
                           .back_to = row.number(3),
                           .until_unix_s = static_cast<int64_t>(row.number(4))};
  }
  return record;
}

Result<uint64_t> RevisionStore::begin(const Revision &revision, std::optional<std::string_view> document) {
  Result<uint64_t> last = newest();
  if (!last.ok()) return last.error();
  if (Status begun = run("BEGIN IMMEDIATE"); !begun.ok()) return begun.error();
  begun_ = last.value() + 1;
  const std::string changes = revision.changes.dump(-1, ' ', false, json::error_handler_t::replace);
  Statement insert(database_.get(),
                   fmt::format("INSERT INTO revisions ({}) VALUES (?,?,?,?,?,?,?,?,?,?)", kColumns));
  insert.bind(begun_)
      .bind(revision.at_unix_ms)
      .bind(revision.author)
      .bind(revision.origin)
      .bind(revision.action)
      .bind(revision.subject)
      .bind(revision.message)
      .bind(revision.snapshot)
      .bind(changes)
      .bind(document ? begun_ : revision.configuration);
  insert.step();
  bool is_written = insert.ok();
  if (is_written && document) {
    Statement keep(database_.get(), "INSERT INTO documents (revision, text) VALUES (?,?)");
    keep.bind(begun_).bind(*document).step();
    is_written = keep.ok();
  }
  if (is_written) return begun_;
  Error failed = error("cannot be written");
  abandon();
  return failed;
}

Status RevisionStore::write_record(const ConfigurationRecord &record) {
  const Confirmation confirmation = record.confirmation.value_or(Confirmation{});
  Statement update(database_.get(),
                   "UPDATE wanted SET revision=?, file_revision=?, confirm_revision=?, confirm_back_to=?, "
                   "confirm_until_unix_s=?");
  update.bind(record.revision)
      .bind(record.file_revision)
      .bind(confirmation.revision)
      .bind(confirmation.back_to)
      .bind(confirmation.until_unix_s)
      .step();
  return update.ok() ? Status(Done{}) : Status(error("cannot be written"));
}

Status RevisionStore::commit(uint64_t snapshot, const ConfigurationRecord &record) {
  Statement update(database_.get(), "UPDATE revisions SET snapshot=? WHERE number=?");
  update.bind(snapshot).bind(begun_).step();
  Status written = update.ok() ? write_record(record) : Status(error("cannot be written"));
  if (written.ok()) written = forget_old();
  if (written.ok()) written = run("COMMIT");
  if (!written.ok()) abandon();
  begun_ = 0;
  return written;
}

void RevisionStore::abandon() {
  begun_ = 0;
  if (sqlite3_get_autocommit(database_.get()) == 0)
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

Status RevisionStore::keep(const ConfigurationRecord &record) { return write_record(record); }

// The oldest documents beyond their bytes, never one that is wanted or may come back; and the oldest
// revisions beyond the number that is kept, never one with a document: what many drains push out is drains.
Status RevisionStore::forget_old() {
  constexpr const char *kInUse =
      "(SELECT revision FROM wanted UNION SELECT file_revision FROM wanted UNION SELECT confirm_back_to FROM "
      "wanted)";
  Statement documents(
      database_.get(),
      fmt::format("DELETE FROM documents WHERE revision IN (SELECT revision FROM (SELECT revision, "
                  "sum(length(text)) OVER (ORDER BY revision DESC) AS bytes FROM documents) "
                  "WHERE bytes > ?) AND revision NOT IN {}",
                  kInUse));
  documents.bind(kMaxDocumentBytes).step();
  Statement rows(database_.get(),
                 "DELETE FROM revisions WHERE number <= (SELECT max(number) FROM revisions) - ? "
                 "AND number NOT IN (SELECT revision FROM documents)");
  rows.bind(uint64_t{kMaxRevisions}).step();
  return rows.ok() && documents.ok() ? Status(Done{}) : Status(error("cannot be written"));
}

Result<std::vector<Revision>> RevisionStore::list(uint64_t before, size_t limit) const {
  Statement rows(
      database_.get(),
      fmt::format("SELECT {} FROM revisions WHERE ? = 0 OR number < ? ORDER BY number DESC LIMIT ?",
                  kColumns));
  rows.bind(before).bind(before).bind(uint64_t{limit});
  std::vector<Revision> revisions;
  while (rows.step()) revisions.push_back(read_row(rows));
  if (!rows.ok()) return error("cannot be read");
  return revisions;
}

Result<std::optional<Revision>> RevisionStore::find(uint64_t number) const {
  Statement row(database_.get(), fmt::format("SELECT {} FROM revisions WHERE number = ?", kColumns));
  row.bind(number);
  if (row.step()) return std::optional(read_row(row));
  if (!row.ok()) return error("cannot be read");
  return std::optional<Revision>();
}

Result<std::optional<std::string>> RevisionStore::document_of(uint64_t number) const {
  Statement row(database_.get(),
                "SELECT text FROM documents WHERE revision = "
                "coalesce((SELECT configuration FROM revisions WHERE number = ?), ?)");
  row.bind(number).bind(number);
  if (row.step()) return std::optional(row.text(0));
  if (!row.ok()) return error("cannot be read");
  return std::optional<std::string>();
}

Result<uint64_t> RevisionStore::count() const {
  Statement row(database_.get(), "SELECT count(*) FROM revisions");
  if (!row.step()) return error("cannot be read");
  return row.number(0);
}

Result<uint64_t> RevisionStore::newest() const {
  Statement row(database_.get(), "SELECT coalesce(max(number), 0) FROM revisions");
  if (!row.step()) return error("cannot be read");
  return row.number(0);
}

}  // namespace sluice
