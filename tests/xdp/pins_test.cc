#include "dataplane/xdp/pins.h"

#include <fstream>

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PinsTest : public XdpFixture {
 protected:
  static UniqueFd make_map() {
    return UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", 4, 4, 1, nullptr));
  }
  /// Another one with each pin, the same through a rename.
  uint64_t inode_of(const std::string &pin) const {
    struct stat facts = {};
    EXPECT_EQ(::stat((pin_directory() / pin).c_str(), &facts), 0) << pin;
    return facts.st_ino;
  }
  bool is_mounted() const {
    return output_of("cat /proc/self/mounts").find(pin_directory().string()) != std::string::npos;
  }
};

TEST_F(PinsTest, a_directory_that_is_on_no_bpffs_gets_one_that_goes_with_the_last_pin) {
  ASSERT_NO_FATAL_FAILURE(open_pins());
  EXPECT_TRUE(is_mounted());
  const UniqueFd map = make_map();
  ASSERT_TRUE(pins_->put(kConnectionsPin, map.get()).ok());
  pins_->remove_directory();
  EXPECT_TRUE(is_mounted());
  ASSERT_TRUE(pins_->remove(kConnectionsPin).ok());
  pins_->remove_directory();
  EXPECT_FALSE(is_mounted());
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
}

TEST_F(PinsTest, a_bpffs_that_somebody_else_mounted_stays) {
  std::filesystem::create_directory(pin_directory());
  ASSERT_EQ(::mount("bpf", pin_directory().c_str(), "bpf", 0, nullptr), 0);
  ASSERT_NO_FATAL_FAILURE(open_pins());
  pins_->remove_directory();
  EXPECT_TRUE(is_mounted());
}

TEST_F(PinsTest, a_directory_on_a_bpffs_needs_no_mount) {
  std::filesystem::create_directory(pin_directory());
  ASSERT_EQ(::mount("bpf", pin_directory().c_str(), "bpf", 0, nullptr), 0);
  Result<Pins> pins = Pins::open(pin_directory() / "sluice");
  ASSERT_TRUE(pins.ok()) << pins.error().message;
  EXPECT_TRUE(pins.value().put("counters", make_map().get()).ok());
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / "sluice" / "counters"));
}

TEST_F(PinsTest, a_bpffs_at_the_usual_place_is_never_hidden_by_another) {
  const std::filesystem::path usual = "/sys/fs/bpf";  // in a mount namespace of this test's own
  while (::umount2(usual.c_str(), MNT_DETACH) == 0) continue;
  const auto mounts_there = [&usual] {
    const std::string mounts = output_of("grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts");
    return std::stoi(mounts);
  };
  {
    Result<Pins> pins = Pins::open(usual / "sluice" / "blue");
    ASSERT_TRUE(pins.ok()) << pins.error().message;
    EXPECT_EQ(mounts_there(), 1) << "there was none";
  }
  std::filesystem::create_directory(usual / "of_somebody_else");
  Result<Pins> pins = Pins::open(usual / "not" / "yet" / "there");
  ASSERT_TRUE(pins.ok()) << pins.error().message;
  EXPECT_EQ(mounts_there(), 1);
  EXPECT_TRUE(std::filesystem::exists(usual / "of_somebody_else"));
}

TEST_F(PinsTest, what_is_pinned_is_found_by_the_next) {
  ASSERT_NO_FATAL_FAILURE(open_pins());
  ASSERT_TRUE(pins_->put(kConnectionsPin, make_map().get()).ok());
  ASSERT_TRUE(pins_->put(kConnectionsPin, make_map().get()).ok()) << "in the place of the other";
  ASSERT_TRUE(pins_->put(link_pin("front"), make_map().get()).ok());
  pins_.reset();
  Result<std::optional<Pins>> found = Pins::open_existing(pin_directory());
  ASSERT_TRUE(found.ok());
  ASSERT_TRUE(found.value().has_value());
  EXPECT_TRUE(found.value()->get(kConnectionsPin).valid());
  EXPECT_FALSE(found.value()->get(kCountersPin).valid());
  EXPECT_THAT(found.value()->ports(), ElementsAre("front"));
}

TEST_F(PinsTest, a_pin_that_an_interrupted_put_left_beside_takes_the_place_without_being_made_anew) {
  ASSERT_NO_FATAL_FAILURE(open_pins());
  const UniqueFd map = make_map();
  const std::string name = link_pin("front");
  ASSERT_TRUE(pins_->put(name + "+", map.get()).ok());
  const uint64_t left = inode_of(name + "+");
  ASSERT_TRUE(pins_->put(name, map.get()).ok());
  EXPECT_EQ(inode_of(name), left) << "it may have been the only one";
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / (name + "+")));
}

TEST_F(PinsTest, another_objects_pin_that_was_left_beside_does_not_take_the_place) {
  ASSERT_NO_FATAL_FAILURE(open_pins());
  ASSERT_TRUE(pins_->put("counters+", make_map().get()).ok());
  const UniqueFd wanted = make_map();
  ASSERT_TRUE(pins_->put(kCountersPin, wanted.get()).ok());
  const uint64_t pinned = inode_of("counters");
  ASSERT_TRUE(pins_->put(kCountersPin, wanted.get()).ok());
  EXPECT_EQ(inode_of("counters"), pinned) << "it is the wanted one";
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "counters+"));
}

TEST_F(PinsTest, nothing_is_made_by_looking) {
  Result<std::optional<Pins>> found = Pins::open_existing(pin_directory());
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found.value().has_value());
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
}

TEST_F(PinsTest, one_process_at_a_time_has_the_directory) {
  ASSERT_NO_FATAL_FAILURE(open_pins());
  for (int i = 0; i < 2; i++) {
    Result<Pins> second = Pins::open(pin_directory());
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(second.error().message, HasSubstr("another sluice-dataplane uses it"));
  }
  EXPECT_FALSE(Pins::open_existing(pin_directory()).ok());
  pins_.reset();
  EXPECT_TRUE(Pins::open(pin_directory()).ok());
}

TEST_F(PinsTest, a_directory_that_cannot_be_made_is_an_error_that_names_it) {
  std::ofstream(directory_.path() / "file") << "x";
  Result<Pins> pins = Pins::open(directory_.path() / "file" / "bpf");
  ASSERT_FALSE(pins.ok());
  EXPECT_THAT(pins.error().message, HasSubstr("--bpf-directory: cannot make"));
}

}  // namespace
}  // namespace sluice
