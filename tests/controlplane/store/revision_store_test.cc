#include "controlplane/store/revision_store.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using nlohmann::json;

class RevisionStoreTest : public testing::Test {
 protected:
  RevisionStoreTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "sluice-revisions-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~RevisionStoreTest() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path path() const { return directory_ / "revisions.db"; }

  RevisionStore open() const {
    Result<RevisionStore> store = RevisionStore::open(path());
    EXPECT_TRUE(store.ok()) << store.error().message;
    return std::move(store).value();
  }

  static Revision change(const std::string &action) {
    return {.at_unix_ms = 1'700'000'000'123,
            .author = "ci",
            .origin = "192.0.2.1:40000",
            .action = action,
            .subject = "web/b1",
            .message = "why",
            .changes = json::array({{{"path", "pools/web/slots"}, {"old", "251"}, {"new", "4093"}}})};
  }

  static uint64_t add(RevisionStore *store, const std::optional<std::string> &document) {
    Result<ConfigurationRecord> record = store->configuration();
    Revision revision = change(document ? "apply" : "drain");
    revision.configuration = record.value().revision;
    const Result<uint64_t> number = store->begin(revision, document);
    EXPECT_TRUE(number.ok()) << number.error().message;
    if (document) record.value().revision = number.value();
    const Status kept = store->commit(41, record.value());
    EXPECT_TRUE(kept.ok()) << kept.error().message;
    return number.value();
  }

  std::filesystem::path directory_;
};

TEST_F(RevisionStoreTest, what_was_committed_is_there_when_it_is_opened_again) {
  {
    RevisionStore store = open();
    EXPECT_EQ(store.newest().value(), 0u);
    EXPECT_EQ(add(&store, "version: 1\n"), 1u);
    EXPECT_EQ(add(&store, std::nullopt), 2u);
  }
  const RevisionStore store = open();
  const std::optional<Revision> first = store.find(1).value();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->author, "ci");
  EXPECT_EQ(first->origin, "192.0.2.1:40000");
  EXPECT_EQ(first->message, "why");
  EXPECT_EQ(first->at_unix_ms, 1'700'000'000'123);
  EXPECT_EQ(first->snapshot, 41u);
  EXPECT_EQ(first->changes, change("").changes);
  EXPECT_EQ(store.configuration().value().revision, 1u);
  EXPECT_EQ(store.document_of(1).value(), "version: 1\n");
  EXPECT_EQ(store.document_of(2).value(), "version: 1\n") << "a drain leaves the configuration as it was";
  EXPECT_EQ(store.document_of(3).value(), std::nullopt);
  EXPECT_EQ(store.find(3).value(), std::nullopt);
}

TEST_F(RevisionStoreTest, what_was_abandoned_is_not_there) {
  RevisionStore store = open();
  add(&store, "a");
  ASSERT_TRUE(store.begin(change("apply"), "b").ok());
  store.abandon();
  EXPECT_EQ(store.newest().value(), 1u);
  EXPECT_EQ(store.document_of(2).value(), std::nullopt);
  EXPECT_EQ(add(&store, "c"), 2u);
}

TEST_F(RevisionStoreTest, what_a_crash_left_begun_is_not_there) {
  {
    RevisionStore store = open();
    add(&store, "a");
    ASSERT_TRUE(store.begin(change("apply"), "b").ok());
  }
  EXPECT_EQ(open().newest().value(), 1u);
}

TEST_F(RevisionStoreTest, lists_the_newest_first_in_pages) {
  RevisionStore store = open();
  for (int i = 0; i < 5; i++) add(&store, std::nullopt);
  const auto numbers = [&](uint64_t before, size_t limit) {
    std::vector<uint64_t> list;
    const std::vector<Revision> found = store.list(before, limit).value();
    for (const Revision &each : found) list.push_back(each.number);
    return list;
  };
  EXPECT_THAT(numbers(0, 2), testing::ElementsAre(5, 4));
  EXPECT_THAT(numbers(4, 10), testing::ElementsAre(3, 2, 1));
}

TEST_F(RevisionStoreTest, keeps_what_waits_for_a_confirmation) {
  {
    RevisionStore store = open();
    add(&store, "a");
    ASSERT_TRUE(store.keep({.revision = 1, .file_revision = 1, .confirmation = Confirmation{1, 1, 99}}).ok());
  }
  RevisionStore store = open();
  const ConfigurationRecord record = store.configuration().value();
  EXPECT_EQ(record.file_revision, 1u);
  EXPECT_EQ(record.confirmation, (Confirmation{1, 1, 99}));
  ASSERT_TRUE(store.keep({.revision = 1, .file_revision = 1, .confirmation = {}}).ok());
  EXPECT_EQ(store.configuration().value().confirmation, std::nullopt);
}

TEST_F(RevisionStoreTest, the_oldest_documents_go_first_and_never_the_one_that_is_wanted) {
  RevisionStore store = open();
  const std::string large(RevisionStore::kMaxDocumentBytes / 2 - 1024, ' ');
  add(&store, large);
  add(&store, large);
  EXPECT_TRUE(store.document_of(1).value().has_value());
  add(&store, large);
  EXPECT_FALSE(store.document_of(1).value().has_value());
  EXPECT_TRUE(store.document_of(2).value().has_value());
  EXPECT_TRUE(store.document_of(3).value().has_value());
  EXPECT_TRUE(store.find(1).value().has_value()) << "its changes stay";
}

TEST_F(RevisionStoreTest, a_damaged_or_unknown_file_is_refused_by_name) {
  {
    std::ofstream(path())
        << "this is no database, whatever else it may be, and it is long enough to be one .....";
  }
  const Result<RevisionStore> damaged = RevisionStore::open(path());
  ASSERT_FALSE(damaged.ok());
  EXPECT_THAT(damaged.error().message, testing::HasSubstr(path().native()));
}

TEST_F(RevisionStoreTest, bytes_that_are_no_text_are_kept) {
  RevisionStore store = open();
  const std::string document("a\0\xff", 3);
  add(&store, document);
  EXPECT_EQ(store.document_of(1).value(), document);
}

}  // namespace
}  // namespace sluice
