#include "controlplane/api/audit_log.h"

#include <fstream>
#include <vector>

#include <gtest/gtest.h>

#include "tests/server/temporary_directory.h"

namespace sluice::api {
namespace {

using nlohmann::json;

std::vector<json> lines_of(const std::filesystem::path &path) {
  std::ifstream file(path);
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
  return lines;
}

class AuditLogFile : public testing::Test {
 protected:
  AuditLog open(uint64_t max_bytes = 16u << 20) {
    return AuditLog::open({.path = path(), .max_bytes = max_bytes, .kept_files = 2}).value();
  }
  std::filesystem::path path() const { return directory_.path() / "audit.log"; }

  TemporaryDirectory directory_;
};

TEST_F(AuditLogFile, each_entry_is_one_line_whatever_is_in_it) {
  open().append({{"path", "/a\n{\"event\":\"change\"}\r\x1b[31m\xff"}, {"event", "refused"}});
  open().append({{"event", "change"}});  // what is there stays
  const std::vector<json> lines = lines_of(path());
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["event"], "refused");
  EXPECT_EQ(lines[1]["event"], "change");
  EXPECT_EQ(lines[0]["time"].get<std::string>().size(), std::string("2026-11-22T00:32:40.123Z").size());
  std::ifstream file(path());
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < '\x7f'));
}

TEST_F(AuditLogFile, is_bounded_and_keeps_the_newest) {
  AuditLog log = open(2000);
  for (int i = 0; i < 1000; i++) log.append({{"number", i}});
  uint64_t bytes = 0;
  for (const char *name : {"audit.log", "audit.log.1", "audit.log.2"}) {
    bytes += std::filesystem::file_size(directory_.path() / name);
  }
  EXPECT_LE(bytes, 6000u);
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "audit.log.3"));
  EXPECT_EQ(lines_of(path()).back()["number"], 999);
  const int first = lines_of(path()).front()["number"];
  EXPECT_EQ(lines_of(directory_.path() / "audit.log.1").back()["number"], first - 1);
}

TEST_F(AuditLogFile, is_for_its_owner_and_group_and_no_other_file_than_itself) {
  open().append({{"event", "change"}});
  EXPECT_EQ(std::filesystem::status(path()).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
  std::filesystem::rename(path(), directory_.path() / "elsewhere");
  std::filesystem::create_symlink(directory_.path() / "elsewhere", path());
  EXPECT_FALSE(AuditLog::open({.path = path()}).ok());
}

}  // namespace
}  // namespace sluice::api
