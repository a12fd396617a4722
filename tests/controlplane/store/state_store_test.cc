#include "controlplane/store/state_store.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/model/address_text.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::span<const std::byte> as_bytes(const std::string &text) { return std::as_bytes(std::span(text)); }

class StateStoreTest : public testing::Test {
 public:
  StateStoreTest()
      : directory_(std::filesystem::temp_directory_path() /
                   ("sluice-cp-store" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(directory_);
  }
  ~StateStoreTest() override { std::filesystem::remove_all(directory_); }

  StateStore open() const {
    auto store = StateStore::open(directory_);
    EXPECT_TRUE(store.ok()) << store.error().message;
    return std::move(store).value();
  }

  void write(const std::string &name, const std::string &text) const {
    std::ofstream(directory_ / name) << text;
  }

  std::filesystem::path directory_;
};

TEST_F(StateStoreTest, directory_is_made_for_its_owner_only) {
  const StateStore store = open();
  EXPECT_EQ(std::filesystem::status(directory_).permissions(), std::filesystem::perms::owner_all);
}

TEST_F(StateStoreTest, second_user_of_the_directory_is_refused_until_the_first_has_gone) {
  {
    const StateStore store = open();
    const auto second = StateStore::open(directory_);
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(second.error().message, HasSubstr("another sluiced uses it"));
  }
  EXPECT_TRUE(StateStore::open(directory_).ok());
}

TEST_F(StateStoreTest, directory_that_cannot_be_made_is_an_error) {
  EXPECT_FALSE(StateStore::open("/proc/nonexistent/sluiced").ok());
}

TEST_F(StateStoreTest, snapshot_is_nothing_at_first_and_the_last_one_later) {
  StateStore store = open();
  EXPECT_EQ(store.load_snapshot().value(), std::nullopt);
  ASSERT_TRUE(store.save_snapshot(as_bytes("first, and longer")).ok());
  ASSERT_TRUE(store.save_snapshot(as_bytes("second")).ok());
  const auto loaded = store.load_snapshot();
  ASSERT_TRUE(loaded.ok() && loaded.value());
  EXPECT_TRUE(std::ranges::equal(*loaded.value(), as_bytes("second")));
}

TEST_F(StateStoreTest, half_written_snapshot_of_a_crash_is_never_seen) {
  StateStore store = open();
  ASSERT_TRUE(store.save_snapshot(as_bytes("whole")).ok());
  write("snapshot.new", "ha");
  EXPECT_TRUE(std::ranges::equal(*store.load_snapshot().value(), as_bytes("whole")));
  ASSERT_TRUE(store.save_snapshot(as_bytes("next")).ok());
  EXPECT_TRUE(std::ranges::equal(*store.load_snapshot().value(), as_bytes("next")));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "snapshot.new"));
}

TEST_F(StateStoreTest, failed_save_keeps_the_old_snapshot) {
  StateStore store = open();
  ASSERT_TRUE(store.save_snapshot(as_bytes("old")).ok());
  std::filesystem::create_directory(directory_ / "snapshot.new");
  const Status saved = store.save_snapshot(as_bytes("new"));
  ASSERT_FALSE(saved.ok());
  EXPECT_THAT(saved.error().message, HasSubstr("snapshot.new: cannot be made"));
  EXPECT_TRUE(std::ranges::equal(*store.load_snapshot().value(), as_bytes("old")));
}

TEST_F(StateStoreTest, flow_hash_key_is_made_once) {
  int calls = 0;
  const RandomSource counting = [&](std::span<std::byte> bytes) {
    std::ranges::fill(bytes, static_cast<std::byte>(++calls));
    return true;
  };
  const FlowHashKey made = open().load_or_make_flow_hash_key(counting).value();
  EXPECT_EQ(made.word[0], 0x01010101u);
  EXPECT_EQ(open().load_or_make_flow_hash_key(counting).value(), made);
  EXPECT_EQ(calls, 1);
  const auto permissions = std::filesystem::status(directory_ / "flow_hash_key").permissions();
  EXPECT_EQ(permissions, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(StateStoreTest, damaged_flow_hash_key_is_an_error_and_not_a_new_key) {
  StateStore store = open();
  write("flow_hash_key", "short");
  const auto key = store.load_or_make_flow_hash_key(system_random);
  ASSERT_FALSE(key.ok());
  EXPECT_THAT(key.error().message, HasSubstr("has 5 bytes instead of 48"));
}

TEST_F(StateStoreTest, without_randomness_there_is_no_key) {
  StateStore store = open();
  EXPECT_FALSE(store.load_or_make_flow_hash_key([](std::span<std::byte>) { return false; }).ok());
  EXPECT_TRUE(store.load_or_make_flow_hash_key(system_random).ok());
}

TEST_F(StateStoreTest, system_randomness_differs) {
  std::array<std::byte, 48> a{};
  std::array<std::byte, 48> b{};
  EXPECT_TRUE(system_random(a) && system_random(b));
  EXPECT_NE(a, b);
}

TEST_F(StateStoreTest, orders_are_kept) {
  const OperatorOrders orders = {
      {{"web", "b1"}, {.kind = model::OrderKind::kDrain, .deadline = std::nullopt, .since_unix_s = 5}},
      {{"web", "b2"}, {.kind = model::OrderKind::kMaintenance, .deadline = std::chrono::seconds(90)}},
      {{"api", "b1"}, {.is_pending = true}}};
  {
    StateStore store = open();
    EXPECT_TRUE(store.load_orders().value().empty());
    ASSERT_TRUE(store.save_orders(orders).ok());
  }
  StateStore store = open();
  EXPECT_EQ(store.load_orders().value(), orders);
  ASSERT_TRUE(store.save_orders({}).ok());
  EXPECT_TRUE(store.load_orders().value().empty());
}

TEST_F(StateStoreTest, damaged_orders_are_an_error) {
  const StateStore store = open();
  const std::string good = R"("pool":"p","backend":"b","order":"drain","since_unix_s":1)";
  const auto with_entry = [](const std::string &entry) {
    return R"({"version":1,"orders":[{)" + entry + "}]}";
  };
  write("orders.json", with_entry(good));
  EXPECT_EQ(store.load_orders().value().size(), 1u);
  for (const std::string &text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{}"),
        std::string(R"({"version":2,"orders":[]})"), std::string(R"({"version":1})"),
        std::string(R"({"version":1,"orders":{}})"), std::string(R"({"version":1,"orders":[1]})"),
        with_entry(R"("pool":"p","order":"drain","since_unix_s":1)"),
        with_entry(R"("pool":"p","backend":7,"order":"drain","since_unix_s":1)"),
        with_entry(R"("pool":"p","backend":"b","order":"dance","since_unix_s":1)"),
        with_entry(R"("pool":"p","backend":"b","order":"drain","since_unix_s":"now")"),
        with_entry(good + R"(,"deadline_s":"soon")"), with_entry(good + R"(,"deadline_s":99999999999999)")}) {
    write("orders.json", text);
    const auto orders = store.load_orders();
    ASSERT_FALSE(orders.ok()) << text;
    EXPECT_THAT(orders.error().message, HasSubstr("orders.json: is damaged; remove it"));
  }
}

TEST_F(StateStoreTest, holds_are_kept) {
  const StoredHolds holds = {
      {{"web", "b1"},
       {.address = *parse_address("10.0.0.1"), .until_unix_s = 7, .falls = 3, .is_well = true}},
      {{"web", "b2"}, {.address = *parse_address("2001:db8::2"), .until_unix_s = 9, .falls = 4}}};
  {
    StateStore store = open();
    EXPECT_TRUE(store.load_holds().value().empty());
    ASSERT_TRUE(store.save_holds(holds).ok());
  }
  StateStore store = open();
  EXPECT_EQ(store.load_holds().value(), holds);
  for (const char *text : {"", "[]", R"({"version":2,"holds":[]})", R"({"version":1})",
                           R"({"version":1,"holds":[{"pool":"web"}]})", R"({"version":1,"holds":[7]})"}) {
    write("holds.json", text);
    ASSERT_FALSE(store.load_holds().ok()) << text;
    EXPECT_THAT(store.load_holds().error().message, HasSubstr("holds.json: is damaged; remove it"));
  }
}

}  // namespace
}  // namespace sluice
