#include "controlplane/sluiced/configuration_history.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include "controlplane/config/config_loader.h"

namespace sluice {
namespace {

constexpr int64_t kNow = 1'700'000'000;  // seconds
constexpr int64_t kNowMs = kNow * 1000;

// A configuration that differs from others by its number.
std::string text_of(int number) {
  return "version: 1\nremoved_backend_grace: " + std::to_string(number) + "s\nservices: []\npools: []\n";
}

model::DesiredState state_of(const std::string &text) { return load_config(text, "test").state.value(); }

class ConfigurationHistoryTest : public testing::Test {
 protected:
  ConfigurationHistoryTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "sluice-history-XXXXXX";
    directory_ = mkdtemp(pattern.data());
    restart(text_of(1));
  }
  ~ConfigurationHistoryTest() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path path() const { return directory_ / "revisions.db"; }

  // A sluiced that starts with a file of this text.
  void restart(const std::string &file, int64_t now = kNow) {
    history_ = ConfigurationHistory();
    Result<ConfigurationHistory> opened = ConfigurationHistory::open(path());
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    history_ = std::move(opened).value();
    const model::DesiredState begun = history_.begin("sluice.yaml", file, state_of(file), now);
    EXPECT_EQ(begun, state_of(history_.document()));
    history_.note_begun("sluice.yaml", 7, now * 1000);
  }

  uint64_t apply(const std::string &text, const api::Terms &terms = {}, bool is_of_file = false) {
    const auto begun = history_.begin_change(
        {.action = "apply", .subject = {}, .changes = {}, .document = text, .is_of_file = is_of_file}, terms,
        kNowMs);
    EXPECT_TRUE(begun.ok());
    EXPECT_TRUE(history_.commit(8).ok());
    return begun.value();
  }

  uint64_t drain() {
    return history_.note({.action = "drain", .subject = "web/b1", .changes = {}}, {}, 8, kNowMs);
  }

  std::filesystem::path directory_;
  ConfigurationHistory history_;
};

TEST_F(ConfigurationHistoryTest, what_was_written_last_counts) {
  apply(text_of(2));
  restart(text_of(1));
  EXPECT_EQ(history_.document(), text_of(2)) << "the file is as it was";
  EXPECT_TRUE(history_.differs_from_file());
  restart(text_of(3));
  EXPECT_EQ(history_.document(), text_of(3)) << "it was edited since";
  EXPECT_FALSE(history_.differs_from_file());
}

TEST_F(ConfigurationHistoryTest, a_start_with_nothing_new_is_no_revision) {
  EXPECT_EQ(history_.newest(), 1u);
  restart(text_of(1));
  restart(text_of(1));
  EXPECT_EQ(history_.newest(), 1u);
}

TEST_F(ConfigurationHistoryTest, a_file_that_says_what_was_applied_counts_as_read) {
  apply(text_of(2));
  history_.note_file_agrees();  // it was reloaded, with that text in it
  apply(text_of(3));
  restart(text_of(2));
  EXPECT_EQ(history_.document(), text_of(3)) << "the file was not edited after that";
}

TEST_F(ConfigurationHistoryTest, without_a_file_that_is_of_use_the_configuration_of_before_is_begun_with) {
  apply(text_of(2));
  history_ = ConfigurationHistory();
  history_ = ConfigurationHistory::open(path()).value();
  const auto begun = history_.begin_without_file(kNow);
  ASSERT_TRUE(begun.has_value());
  EXPECT_EQ(*begun, state_of(text_of(2)));
  EXPECT_FALSE(ConfigurationHistory().begin_without_file(kNow).has_value());
}

TEST_F(ConfigurationHistoryTest, a_trial_that_ended_while_sluiced_was_away_has_ended) {
  const uint64_t on_trial = apply(text_of(2), {.confirm_within = std::chrono::seconds(60)});
  restart(text_of(1), kNow + 30);
  EXPECT_EQ(history_.document(), text_of(2));
  ASSERT_TRUE(history_.confirmation().has_value());
  EXPECT_EQ(history_.confirmation()->revision, on_trial);
  EXPECT_LE(history_.confirmation_left()->count(), 30);
  restart(text_of(1), kNow + 61);
  EXPECT_EQ(history_.document(), text_of(1));
  EXPECT_FALSE(history_.confirmation().has_value());
  EXPECT_EQ(history_.newest(), on_trial + 1);
}

TEST_F(ConfigurationHistoryTest, a_clock_that_was_set_back_makes_no_trial_of_years) {
  apply(text_of(2), {.confirm_within = std::chrono::seconds(60)});
  restart(text_of(1), 1000);
  EXPECT_LE(*history_.confirmation_left(), std::chrono::hours(24));
}

TEST_F(ConfigurationHistoryTest, a_trial_within_a_trial_ends_with_what_was_before_both) {
  apply(text_of(2), {.confirm_within = std::chrono::seconds(60)});
  apply(text_of(3), {.confirm_within = std::chrono::seconds(60)});
  EXPECT_EQ(history_.confirmation()->back_to, 1u);
}

// Files can grow no further while it lives: a full disk.
class FullDisk {
 public:
  FullDisk() {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{.rlim_cur = 1, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk &) = delete;
  FullDisk &operator=(const FullDisk &) = delete;

 private:
  rlimit before_{};
};

TEST_F(ConfigurationHistoryTest, what_could_not_be_written_is_written_with_the_next_change) {
  const ConfigurationHistory::Change change{
      .action = "apply", .subject = {}, .changes = {}, .document = text_of(2)};
  ASSERT_TRUE(history_.begin_change(change, {}, kNowMs).ok());
  {
    const FullDisk full;
    EXPECT_FALSE(history_.commit(8).ok());
  }
  EXPECT_TRUE(history_.is_unsaved());
  EXPECT_EQ(history_.document(), text_of(2)) << "it is in force all the same";
  EXPECT_EQ(drain(), 3u) << "after the configuration itself";
  EXPECT_FALSE(history_.is_unsaved());
  restart(text_of(1));
  EXPECT_EQ(history_.document(), text_of(2));
}

TEST_F(ConfigurationHistoryTest, what_could_not_be_written_ends_a_restart_with_what_was_before) {
  ASSERT_TRUE(
      history_
          .begin_change({.action = "apply", .subject = {}, .changes = {}, .document = text_of(2)}, {}, kNowMs)
          .ok());
  {
    const FullDisk full;
    EXPECT_FALSE(history_.commit(8).ok());
  }
  restart(text_of(1));
  EXPECT_EQ(history_.document(), text_of(1));
}

TEST_F(ConfigurationHistoryTest, many_drains_push_no_configuration_out) {
  sqlite3 *database = nullptr;
  history_ = ConfigurationHistory();
  ASSERT_EQ(sqlite3_open(path().c_str(), &database), SQLITE_OK);
  // As if ten thousand drains had been made.
  ASSERT_EQ(sqlite3_exec(
                database,
                "INSERT INTO revisions SELECT 20000, at_unix_ms, author, origin, 'drain', subject, message, "
                "snapshot, changes, configuration FROM revisions WHERE number = 1",
                nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  restart(text_of(1));
  drain();
  EXPECT_TRUE(history_.revision(1).value().has_value());
  EXPECT_EQ(history_.document_of(1).value(), text_of(1));
}

TEST_F(ConfigurationHistoryTest, a_damaged_database_is_put_aside_and_no_other_is) {
  apply(text_of(2));
  history_ = ConfigurationHistory();
  std::ofstream(path(), std::ios::trunc) << std::string(8192, 'x');
  std::filesystem::remove(path().native() + "-wal");
  restart(text_of(1));
  EXPECT_EQ(history_.document(), text_of(1));
  EXPECT_TRUE(std::filesystem::exists(path().native() + ".damaged"));

  history_ = ConfigurationHistory();
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());  // it cannot be opened, whatever is in it
  const Result<ConfigurationHistory> opened = ConfigurationHistory::open(path());
  EXPECT_FALSE(opened.ok());
  EXPECT_TRUE(std::filesystem::is_directory(path())) << "nobody knows that it is damaged";
}

}  // namespace
}  // namespace sluice
