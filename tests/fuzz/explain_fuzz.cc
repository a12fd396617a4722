// Any bytes as the control socket's `explain`: after a byte that says how, either a JSON message or a frame
// itself. It is answered or refused in words, changes no table, and says of a frame what a worker with the
// same tables then does.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tests/core/flows.h"
#include "tests/server/explain_fixture.h"

namespace {

using namespace sluice;  // NOLINT(google-build-using-namespace)

void require(bool condition) {
  if (!condition) __builtin_trap();
}

constexpr uint32_t kNow = 8190;  // stamps wrap soon

SnapshotBuilder make_snapshot() {
  SnapshotBuilder builder = standard_snapshot(kSchedulerLeastConnection);
  builder.add_check_source("192.0.2.1", {1, 0, 2});
  return builder;
}

/// Two workers, whose tables are small enough to be full.
struct World {
  SnapshotBuilder snapshot = make_snapshot();
  TestTables first{snapshot, 2};
  TestTables second{snapshot, 2};
  ForwardingTables forwarding = forwarding_tables(snapshot, first);
  LiveTables live = live_tables(&forwarding, {&first, &second}, 2, kNow);

  explicit World(uint8_t flows) {
    first.set_peers({&second});
    second.set_peers({&first});
    for (uint8_t i = 0; i < flows; i++) {
      const TestFlow flow = {.family = static_cast<uint8_t>(i & 1 ? kFamilyIpv6 : kFamilyIpv4),
                             .protocol = static_cast<uint8_t>(i & 2 ? kProtocolUdp : kProtocolTcp),
                             .client = i / 4u};
      decide_frame((i & 4 ? first : second).tables(), frame_of_flow(flow, i & 8 ? kTcpAck : kTcpSyn),
                   kNow - i);
    }
    for (TestTables *tables : {&first, &second}) {
      for (uint32_t &budget : tables->adoption_budgets) budget = 1000;
      tables->icmp_reply_budget = 1000;
    }
    live.budgets = {{1000, 1000}, 100'000, 1000};
  }

  std::vector<BucketArray> buckets() {
    return {first.ipv4_buckets(), first.ipv6_buckets(), second.ipv4_buckets(), second.ipv6_buckets()};
  }
};

bool is_equal(const std::vector<BucketArray> &a, const std::vector<BucketArray> &b) {
  for (size_t i = 0; i < a.size(); i++)
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(ConnectionBucket)) != 0) return false;
  return true;
}

void answer(World *world, const Result<ExplainRequest> &request) {
  if (!request.ok()) {
    require(!request.error().message.empty());
    return;
  }
  const ExplainContext context = {world->live, kNow, [](uint16_t) { return std::string("hop"); },
                                  [](uint16_t) { return std::string("port"); }};
  const Result<nlohmann::json> explained = explain(context, request.value());
  if (!explained.ok()) {
    require(request.value().worker.value_or(0) > 1);
    return;
  }
  const auto &stages = explained.value()["stages"];
  require(!stages.empty() && stages.back()["stage"] == "verdict");
  for (const auto &stage : stages) require(!stage["finding"].get<std::string>().empty());
  require(!explained.value().dump().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  World world(data[0] >> 2);
  const std::vector<BucketArray> before = world.buckets();
  const std::string_view rest(reinterpret_cast<const char *>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) {
    const auto message = nlohmann::json::parse(rest, nullptr, false);
    if (message.is_object()) answer(&world, parse_explain_request(message));
    require(is_equal(before, world.buckets()));
    return 0;
  }
  // In a block of its own size: what is read past it is seen.
  const Bytes frame(rest.begin(), rest.end());
  const uint32_t worker = data[0] >> 1 & 1;
  answer(&world, ExplainRequest{frame, static_cast<uint32_t>(frame.size()), std::nullopt});
  const DryRun foretold = dry_run(world.live, {frame, static_cast<uint32_t>(frame.size()), worker});
  require(is_equal(before, world.buckets()));
  if (frame.empty()) return 0;  // no worker gets one
  const Decided decided = decide_frame((worker == 0 ? world.first : world.second).tables(), frame, kNow);
  require(foretold.verdict == decided.verdict());
  require(foretold.backend == decided.decision.backend);
  return 0;
}
