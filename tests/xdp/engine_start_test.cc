// How an engine takes the place of what is there.
#include <gmock/gmock.h>

#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class XdpEngineStartTest : public XdpFixture {
 protected:
  const XdpPortReport &report() const { return engine_->preflight().ports[0]; }
};

TEST_F(XdpEngineStartTest, a_generic_port_that_is_kept_is_warned_of_at_each_start_with_the_remedy) {
  run("ip link add bridge0 type bridge && ip link set bridge0 up");
  interface_ = "bridge0";
  ASSERT_NO_FATAL_FAILURE(start_engine());
  for (int again = 0; again < 2; again++) {
    ASSERT_NO_FATAL_FAILURE(forget_engine());
    ASSERT_NO_FATAL_FAILURE(start_engine());
    EXPECT_THAT(report().mode, HasSubstr("generic: as the process before this one"));
    EXPECT_THAT(report().warnings, AllOf(SizeIs(1), Contains(AllOf(HasSubstr("several times slower"),
                                                                   HasSubstr("--xdp-mode native"),
                                                                   HasSubstr("driver (bridge)")))));
  }
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kGeneric));
  EXPECT_THAT(report().warnings, IsEmpty()) << "it is what is wanted";
}

TEST_F(XdpEngineStartTest, a_generic_port_that_is_kept_becomes_native_as_the_warning_says) {
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kGeneric));
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kGeneric);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kNative));
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kNative);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kNative);
  EXPECT_THAT(report().warnings, Not(Contains(HasSubstr("slower"))));
}

TEST_F(XdpEngineStartTest, a_link_that_an_interrupted_start_left_pinned_by_two_names_is_kept) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_TRUE(pins_->put(link_pin("inside"), pins_->get(link_pin("front")).get()).ok());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  port_name_ = "inside";
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_THAT(report().mode, HasSubstr("as the process before this one"));
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
  EXPECT_NE(program_id_on("port0"), 0u);
}

TEST_F(XdpEngineStartTest,
       a_port_that_moves_is_on_the_interface_before_when_the_start_fails_and_off_it_else) {
  run("ip link add port1 type veth peer name peer1 && ip link set port1 up");
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  interface_ = "port1";
  std::filesystem::create_directory(pin_directory() / "entry-front");  // no pin: cannot be removed
  ASSERT_NO_FATAL_FAILURE(create_engine());
  ASSERT_TRUE(engine_->install(tables_of(100)).ok());
  const Status started = engine_->start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().message, HasSubstr("entry-front: cannot remove"));
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), first);
  EXPECT_EQ(program_id_on("port1"), 0u);
  std::filesystem::remove(pin_directory() / "entry-front");
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_NE(program_id_on("port1"), 0u);
}

TEST_F(XdpEngineStartTest, the_pin_of_a_port_that_is_down_when_tables_come_goes) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(create_engine());
  ASSERT_TRUE(engine_->start().ok()) << "waits for tables";
  run("ip link del port0");
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / "link-front"));
  const Status installed = engine_->install(tables_of(100));
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
}

}  // namespace
}  // namespace sluice
