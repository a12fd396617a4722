// Interfaces that are back and cannot be the ports' again at first.
#include <filesystem>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Look = Engine::Look;
using XdpEngineLinksTest = XdpFixture;

TEST_F(XdpEngineLinksTest, an_interface_that_is_back_and_cannot_be_attached_is_tried_again_now_and_then) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  const UniqueFd program = load_program("firewall");
  Result<Attachment> other = attach(program.get(), "port0", network_.port_ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(),
              AllOf(HasSubstr("interface port0 is back, but: "), HasSubstr("firewall")));
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kSame);

  other.value().link.reset(-1);
  wait_for_packets();
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame) << "the interface is the same";
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_FALSE(engine_->status().contains("problem"));
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / "link-front"));
}

TEST_F(XdpEngineLinksTest, an_interface_that_could_not_be_attached_is_tried_again_when_there_is_another) {
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kNative));
  run("ip link del port0 && ip link add port0 type bridge");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(), HasSubstr("interface port0 is back, but: "));
  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
}

}  // namespace
}  // namespace sluice
