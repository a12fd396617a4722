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

}  // namespace
}  // namespace sluice
