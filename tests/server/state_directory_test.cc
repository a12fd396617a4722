#include "dataplane/server/state_directory.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class StateDirectoryTest : public testing::Test {
 protected:
  void SetUp() override { umask_before_ = ::umask(077); }
  void TearDown() override { ::umask(umask_before_); }
  static struct stat info_of(const std::filesystem::path &path) {
    struct stat info = {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info;
  }
  static mode_t mode_of(const std::filesystem::path &path) { return info_of(path).st_mode & 07777; }

  TemporaryDirectory directory_;
  mode_t umask_before_ = 0;
};

TEST_F(StateDirectoryTest, is_made_for_its_owner_and_group_whatever_the_umask) {
  const auto file = directory_.path() / "lib" / "sluice" / "dataplane" / "snapshot";
  const Status made = make_directory_of(file);
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(mode_of(file.parent_path()), 0750);
  EXPECT_EQ(mode_of(directory_.path() / "lib"), 0755);
  EXPECT_EQ(mode_of(directory_.path() / "lib" / "sluice"), 0755);
  EXPECT_TRUE(std::ofstream(file).good());
}

TEST_F(StateDirectoryTest, belongs_to_the_group_that_may_use_what_is_in_it) {
  const gid_t group = ::getuid() == 0 ? 4 : ::getgid();
  ASSERT_TRUE(make_directory_of(directory_.path() / "run" / "socket", group).ok());
  EXPECT_EQ(info_of(directory_.path() / "run").st_gid, group);
  EXPECT_EQ(mode_of(directory_.path() / "run"), 0750);
}

TEST_F(StateDirectoryTest, that_exists_stays_as_it_is) {
  const auto existing = directory_.path() / "run";
  std::filesystem::create_directory(existing);
  ASSERT_EQ(::chmod(existing.c_str(), 0711), 0);
  EXPECT_TRUE(make_directory_of(existing / "socket", ::getgid() + 1).ok());
  EXPECT_EQ(mode_of(existing), 0711);
  EXPECT_EQ(info_of(existing).st_gid, ::getgid());
  EXPECT_TRUE(make_directory_of("socket").ok()) << "the working directory";
}

TEST_F(StateDirectoryTest, that_cannot_be_made_is_named) {
  const auto file = directory_.path() / "file";
  std::ofstream(file) << "no directory";
  for (const auto &wanted : {file / "socket", file / "deeper" / "socket"}) {
    const Status made = make_directory_of(wanted);
    ASSERT_FALSE(made.ok());
    EXPECT_THAT(made.error().message,
                AllOf(HasSubstr(file.string()), HasSubstr("cannot make this directory")));
  }
}

}  // namespace
}  // namespace sluice
