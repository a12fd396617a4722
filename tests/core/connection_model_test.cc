// The connection table against a model of it: a std::map and the rules in plain words. Random packets,
// pauses, sweeps and changes of backends, from printed seeds.
#include <map>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/core/flows.h"

namespace sluice {
namespace {

constexpr uint32_t kFlows = 200;
constexpr uint32_t kOperations = 20000;

TestFlow flow_of(uint32_t number) {
  return {.family = static_cast<uint8_t>(number & 1 ? kFamilyIpv6 : kFamilyIpv4),
          .protocol = static_cast<uint8_t>(number & 2 ? kProtocolUdp : kProtocolTcp),
          .client = number / 8,
          .client_port = static_cast<uint16_t>(number & 4 ? 40000 : 50000)};
}

/// The rules, said a second time.
class Model {
 public:
  struct Entry {
    ConnectionState state;
    uint16_t backend;
    uint32_t seen_s;
  };

  void set_backend(uint16_t backend, BackendState state) { backends_[backend] = state; }
  std::map<uint32_t, Entry> entries;

  bool timed_out(uint32_t flow, uint32_t now_s) const {
    const Entry &entry = entries.at(flow);
    const bool udp = flow_of(flow).protocol == kProtocolUdp;
    const uint32_t age_s = now_s - entry.seen_s;
    switch (entry.state) {
      case kConnectionEmbryonic:
        return age_s > 10;
      case kConnectionClosing:
        return age_s > 10;
      default:
        return age_s > (udp ? 30u : 900u);
    }
  }

  bool may_expire(uint32_t flow, uint32_t now_s) const {
    const BackendState backend = backends_.at(entries.at(flow).backend);
    return backend == kBackendUnused || backend == kBackendClosed || timed_out(flow, now_s);
  }

  /// Notes a packet that was sent to `backend`; answers the verdict that it should have had.
  /// `scheduled` is the backend that a new connection would get.
  Verdict packet(uint32_t flow, uint8_t flags, uint32_t now_s, uint16_t scheduled, uint16_t *backend) {
    const auto found = entries.find(flow);
    if (found != entries.end() && stays(flow, flags, now_s)) {
      Entry &entry = found->second;
      *backend = entry.backend;
      entry.seen_s = now_s;
      const bool udp = flow_of(flow).protocol == kProtocolUdp;
      if (flags & (kTcpFin | kTcpRst)) {
        entry.state = kConnectionClosing;
      } else if (entry.state == kConnectionEmbryonic && (udp || !(flags & kTcpSyn))) {
        entry.state = kConnectionEstablished;
      }
      return kVerdictForwardEstablished;
    }
    *backend = scheduled;
    if (scheduled == 0) return kVerdictDropNoBackend;
    if (found == entries.end() && (flags & (kTcpFin | kTcpRst))) return kVerdictForwardUntracked;
    entries[flow] = {kConnectionEmbryonic, scheduled, now_s};
    return kVerdictForwardNew;
  }

 private:
  bool stays(uint32_t flow, uint8_t flags, uint32_t now_s) const {
    const Entry &entry = entries.at(flow);
    const BackendState backend = backends_.at(entry.backend);
    if (backend == kBackendUnused || backend == kBackendClosed) return false;
    const bool udp = flow_of(flow).protocol == kProtocolUdp;
    const bool opens = !udp && (flags & (kTcpSyn | kTcpAck | kTcpFin | kTcpRst)) == kTcpSyn;
    if (!udp && !opens) return true;
    if (backend == kBackendDown || timed_out(flow, now_s)) return false;
    if (!opens) return true;
    if (entry.state == kConnectionClosing) return false;
    return entry.state == kConnectionEstablished || backend == kBackendUp;
  }

  std::map<uint16_t, BackendState> backends_ = {{1, kBackendUp}, {2, kBackendUp}};
};

class RandomRun {
 public:
  RandomRun(uint64_t seed, uint32_t buckets) : random_(seed), tables_(snapshot_, buckets) {}

  /// One random operation on the table and on the model.
  void step() {
    const uint64_t choice = random_() % 1000;
    if (choice < 40) {
      now_s_ += static_cast<uint32_t>(choice < 5 ? random_() % 1000 : random_() % 12);
    } else if (choice < 45) {
      sweep();
    } else if (choice < 50) {
      change_backend();
    } else {
      packet();
    }
  }

  TestTables &tables() { return tables_; }
  Model &model() { return model_; }

 protected:
  void packet() {
    const auto number = static_cast<uint32_t>(random_() % kFlows);
    const TestFlow flow = flow_of(number);
    const uint8_t choices[] = {kTcpSyn, kTcpAck, kTcpAck, kTcpAck, kTcpFin | kTcpAck, kTcpRst};
    const uint8_t flags =
        flow.protocol == kProtocolTcp ? choices[random_() % std::size(choices)] : uint8_t{0};
    const Packet parsed = packet_of(tables_.tables(), flow, flags);
    const uint16_t scheduled = sluice::scheduled(tables_, &tables_->services[service_of(flow)], parsed.hash);
    const Decided decided = send(tables_.tables(), flow, flags, now_s_);
    forget_expired();
    uint16_t backend = 0;
    const Verdict expected = model_.packet(number, flags, now_s_, scheduled, &backend);
    ASSERT_EQ(verdict_name(decided.verdict()), verdict_name(expected))
        << "flow " << number << " at " << now_s_;
    ASSERT_EQ(decided.decision.backend, backend);
  }

  void sweep() {
    for (uint32_t index = 0; index < tables_.ipv4_buckets().size(); index++)
      for (uint8_t family : {kFamilyIpv4, kFamilyIpv6})
        sweep_bucket(&tables_.tables(), family, index, now_s_);
    forget_expired();
    for (const auto &[flow, entry] : model_.entries)
      ASSERT_FALSE(model_.may_expire(flow, now_s_)) << "flow " << flow << " was left by a sweep";
  }

  /// A backend drains, fails, comes back, or goes for good.
  void change_backend() {
    const auto backend = static_cast<uint16_t>(1 + random_() % 2);
    const BackendState states[] = {kBackendUp,   kBackendUp,     kBackendDraining,
                                   kBackendDown, kBackendClosed, kBackendUnused};
    const BackendState state = states[random_() % std::size(states)];
    snapshot_.set_state(backend, state);
    tables_.use_snapshot(snapshot_);
    model_.set_backend(backend, state);
  }

  /// A full bucket empties what has expired when it needs room: so may the model, but nothing else.
  void forget_expired() {
    if (tables_.worker.expired_entries == seen_expired_) return;
    seen_expired_ = tables_.worker.expired_entries;
    for (auto it = model_.entries.begin(); it != model_.entries.end();) {
      if (entry_of(tables_.tables(), flow_of(it->first)) != 0) {
        ++it;
        continue;
      }
      ASSERT_TRUE(model_.may_expire(it->first, now_s_)) << "flow " << it->first << " vanished";
      it = model_.entries.erase(it);
    }
  }

 private:
  std::mt19937_64 random_;
  SnapshotBuilder snapshot_ = standard_snapshot();
  TestTables tables_;
  Model model_;
  uint64_t seen_expired_ = 0;
  uint32_t now_s_ = 8000;
};

TEST(ConnectionModel, table_does_what_the_rules_say) {
  for (uint64_t seed = 1; seed <= 4; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRun run(seed, 1024);
    for (uint32_t i = 0; i < kOperations; i++) {
      run.step();
      if (testing::Test::HasFatalFailure()) return;
      if (i % 500 != 0) continue;
      ASSERT_EQ(inconsistency(run.tables()), "");
      ASSERT_EQ(run.tables().entries(), run.model().entries.size());
    }
    EXPECT_EQ(run.tables().worker.evicted_entries, 0u);
  }
}

// A table far too small for its flows: what it keeps is a matter of chance, but its books are right.
TEST(ConnectionModel, crowded_table_counts_and_finds_all_its_entries) {
  for (uint64_t seed = 1; seed <= 9; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    SnapshotBuilder snapshot = standard_snapshot(kSchedulerLeastConnection);
    TestTables tables(snapshot, 4u << seed % 3);
    uint32_t now_s = 8000;
    for (uint32_t i = 0; i < 5000; i++) {
      const TestFlow flow = flow_of(static_cast<uint32_t>(random() % kFlows));
      const uint8_t choices[] = {kTcpSyn, kTcpAck, kTcpAck, kTcpFin | kTcpAck, kTcpRst};
      const Decided decided = send(tables.tables(), flow, choices[random() % std::size(choices)], now_s);
      ASSERT_EQ(verdict_class(decided.verdict()), kVerdictClassForward);
      if (random() % 10 == 0) now_s += static_cast<uint32_t>(random() % 5);
      if (i % 10 != 0) continue;
      ASSERT_EQ(inconsistency(tables), "") << "after " << i << " packets";
    }
    EXPECT_GT(tables.worker.evicted_entries, 0u);
    EXPECT_GT(tables.worker.expired_entries, 0u);
  }
}

}  // namespace
}  // namespace sluice
