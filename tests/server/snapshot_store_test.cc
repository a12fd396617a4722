#include "dataplane/server/snapshot_store.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/server/snapshot_builder.h"
#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using SnapshotResult = Result<std::shared_ptr<const MappedSnapshot>>;

AlignedBytes example(uint64_t revision) {
  SnapshotBuilder builder;
  builder.revision = revision;
  const uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11", 1);
  const uint32_t b2 = builder.add_backend("web", "b2", "10.1.0.12", 2);
  const uint32_t web = builder.add_service("web", builder.add_pool({b1, b2}));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  return builder.build();
}

std::shared_ptr<const MappedSnapshot> mapped(uint64_t revision) {
  SnapshotResult snapshot = MappedSnapshot::from_bytes(example(revision));
  return std::move(snapshot).value();
}

UniqueFd memfd_of(std::span<const std::byte> bytes, int seals) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

std::string error_of(const SnapshotResult &result) {
  return result.ok() ? "accepted" : result.error().message;
}

TEST(MappedSnapshot, shows_the_records_of_a_sealed_memfd) {
  const SnapshotResult result =
      MappedSnapshot::from_memfd(memfd_of(example(7), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
  ASSERT_TRUE(result.ok()) << result.error().message;
  const MappedSnapshot &snapshot = *result.value();
  EXPECT_EQ(snapshot.header().revision, 7);
  ASSERT_EQ(snapshot.services().size(), 1);
  EXPECT_EQ(snapshot.string(snapshot.services()[0].name), "web");
  ASSERT_EQ(snapshot.backends().size(), 3);
  EXPECT_EQ(snapshot.string(snapshot.backends()[2].name), "b2");
  EXPECT_THAT(snapshot.slots(), ElementsAre(1, 2, 2));
  EXPECT_EQ(snapshot.port_ranges()[0].first_port, 80);
  EXPECT_EQ(snapshot.vips().size(), snapshot.header().vip_mask + 1);
}

TEST(MappedSnapshot, refuses_a_memfd_with_any_seal_missing) {
  const AlignedBytes bytes = example(1);
  for (const int seals : {0, F_SEAL_WRITE, F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW,
                          F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW})
    EXPECT_THAT(error_of(MappedSnapshot::from_memfd(memfd_of(bytes, seals))), HasSubstr("seals")) << seals;
}

TEST(MappedSnapshot, refuses_what_is_no_memfd) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "file";
  std::ofstream(path) << "not a memfd";
  EXPECT_THAT(error_of(MappedSnapshot::from_memfd(UniqueFd(::open(path.c_str(), O_RDWR)))),
              HasSubstr("memfd"));
  EXPECT_THAT(error_of(MappedSnapshot::from_memfd(UniqueFd(::open("/dev/null", O_RDWR)))),
              HasSubstr("no memfd"));
  EXPECT_THAT(error_of(MappedSnapshot::from_memfd(UniqueFd())), HasSubstr("no memfd"));
}

TEST(MappedSnapshot, refuses_an_empty_memfd_and_a_bad_snapshot) {
  const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  EXPECT_THAT(error_of(MappedSnapshot::from_memfd(memfd_of({}, seals))), HasSubstr("empty"));
  AlignedBytes bytes = example(1);
  bytes[300] ^= std::byte{1};
  EXPECT_THAT(error_of(MappedSnapshot::from_memfd(memfd_of(bytes, seals))), HasSubstr("checksum"));
}

/// A sealed memfd of `size` bytes of which only `written` take memory; its header says that it is a snapshot.
UniqueFd sparse_memfd(off_t size, size_t written) {
  AlignedBytes bytes = example(1);
  bytes.resize(std::min(bytes.size(), written));
  if (bytes.size() >= sizeof(SnapshotHeader))
    reinterpret_cast<SnapshotHeader *>(bytes.data())->total_size = static_cast<uint64_t>(size);
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(::ftruncate(fd.get(), size), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
  return fd;
}

/// Bytes of memory that a memfd takes.
off_t memory_of(const UniqueFd &memfd) {
  struct stat info = {};
  EXPECT_EQ(::fstat(memfd.get(), &info), 0);
  return info.st_blocks * 512;
}

TEST(MappedSnapshot, gives_no_memory_to_a_memfd_that_it_refuses) {
  constexpr off_t kSize = 64 << 20;
  for (const size_t written : {size_t{0}, size_t{100}, size_t{1000}}) {
    const UniqueFd memfd = sparse_memfd(kSize, written);
    const off_t before = memory_of(memfd);
    ASSERT_LT(before, kSize);
    const std::string error = error_of(MappedSnapshot::from_memfd(UniqueFd(::dup(memfd.get()))));
    EXPECT_THAT(error, HasSubstr(written < sizeof(SnapshotHeader) ? "header." : "but memory for 4096"));
    EXPECT_EQ(memory_of(memfd), before);
  }
}

TEST(SnapshotStore, does_not_copy_a_file_whose_header_is_not_a_snapshots) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "snapshot";
  std::ofstream(path) << "something else";
  std::filesystem::resize_file(path, 4 << 20);
  // A copy would meet the limit.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = error_of(SnapshotStore(path).load());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(error, HasSubstr("header.magic"));
}

TEST(SnapshotStore, loads_what_was_saved_last) {
  const TemporaryDirectory directory;
  const SnapshotStore store(directory.path() / "snapshot");
  ASSERT_TRUE(store.save(*mapped(1)).ok());
  ASSERT_TRUE(store.save(*mapped(2)).ok());
  const SnapshotResult loaded = store.load();
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded.value()->header().revision, 2);
  EXPECT_TRUE(std::ranges::equal(loaded.value()->bytes(), example(2)));
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "snapshot.new"));
}

TEST(SnapshotStore, has_nothing_at_first) {
  const TemporaryDirectory directory;
  const SnapshotResult loaded = SnapshotStore(directory.path() / "snapshot").load();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded.value(), nullptr);
}

TEST(SnapshotStore, says_that_a_file_is_damaged_and_leaves_it) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "snapshot";
  const SnapshotStore store(path);
  ASSERT_TRUE(store.save(*mapped(1)).ok());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 8);
  EXPECT_THAT(error_of(store.load()), HasSubstr(path.string()));
  EXPECT_THAT(error_of(store.load()), HasSubstr("header.total_size"));
  EXPECT_TRUE(std::filesystem::exists(path));
  std::ofstream(path, std::ios::trunc) << "";
  EXPECT_THAT(error_of(store.load()), HasSubstr("empty"));
}

TEST(SnapshotStore, is_not_disturbed_by_what_an_interrupted_save_left) {
  const TemporaryDirectory directory;
  const SnapshotStore store(directory.path() / "snapshot");
  ASSERT_TRUE(store.save(*mapped(1)).ok());
  std::ofstream(directory.path() / "snapshot.new")
      << "half of something much longer than a snapshot ..............";
  EXPECT_EQ(store.load().value()->header().revision, 1);
  ASSERT_TRUE(store.save(*mapped(2)).ok());
  EXPECT_EQ(store.load().value()->header().revision, 2);
}

TEST(SnapshotStore, keeps_the_old_file_when_the_new_one_cannot_be_written) {
  const TemporaryDirectory directory;
  const SnapshotStore store(directory.path() / "snapshot");
  ASSERT_TRUE(store.save(*mapped(1)).ok());
  const auto next = mapped(2);
  // A file size limit stops the write half-way, as a full disk does.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {100, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status saved = store.save(*next);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(saved.ok());
  EXPECT_THAT(saved.error().message, HasSubstr("cannot write"));
  EXPECT_EQ(store.load().value()->header().revision, 1);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "snapshot.new"));
}

TEST(SnapshotStore, names_a_directory_that_does_not_exist) {
  const SnapshotStore store("/nonexistent-directory/snapshot");
  EXPECT_THAT(store.save(*mapped(1)).error().message, HasSubstr("/nonexistent-directory/snapshot.new"));
}

TEST(SnapshotStore, has_a_whole_snapshot_whenever_its_writer_is_killed) {
  const TemporaryDirectory directory;
  const SnapshotStore store(directory.path() / "snapshot");
  ASSERT_TRUE(store.save(*mapped(1)).ok());
  for (int round = 0; round < 20; round++) {
    const pid_t writer = ::fork();
    if (writer == 0) {
      const auto a = mapped(1);
      const auto b = mapped(2);
      for (;;) (void)(store.save(*a).ok() && store.save(*b).ok());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + round));
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
    const SnapshotResult loaded = store.load();
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    ASSERT_NE(loaded.value(), nullptr);
  }
}

}  // namespace
}  // namespace sluice
