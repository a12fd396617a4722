// The README's tables of what leads from state to state, and of what becomes of connections, against the
// program.
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "controlplane/compile/effective_backends.h"
#include "controlplane/health/health_state.h"
#include "controlplane/lifecycle/lifecycle.h"
#include "tests/controlplane/lifecycle/documented_rows.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using model::Health;
using Names = std::set<std::string>;

constexpr auto kHold = 60s;
constexpr auto kSlowStart = 19s;
constexpr auto kDeadline = 100s;

// One backend that has connections, its checks, and a clock.
class Life {
 public:
  explicit Life(std::chrono::seconds slow_start) {
    pool_.health.kind = model::TcpCheck{};
    pool_.health.rise = 2;
    pool_.health.fall = 3;
    pool_.slow_start = slow_start;
    settle();
  }

  void check(CheckOutcome outcome, int times = 1) {
    for (int i = 0; i < times; i++) {
      checks_ = observe_check(checks_, outcome, pool_.health.rise, pool_.health.fall);
      if (reported_health(checks_) != condition_.health)
        note_health(member(), reported_health(checks_), now_, &condition_);
      settle();
    }
  }
  void succeed(int times = 1) { check(CheckOutcome::kSuccess, times); }
  void fail(int times = 1) { check(CheckOutcome::kFailure, times); }
  void damp() { pool_.flap_damping = model::FlapDamping{.falls = 1, .window = 1h, .hold = kHold}; }

  void pass(std::chrono::milliseconds time) {
    now_ += time;
    settle();
  }
  void see(bool ejected, bool probing) {
    condition_.ejected = ejected;
    condition_.probing = probing;
    settle();
  }
  void order(model::OrderKind kind) {
    order_ = model::OperatorOrder{.kind = kind, .deadline = kDeadline, .since_unix_s = unix_s()};
    condition_.drain.reset();
    settle();
  }
  void lift() {
    if (order_->kind == model::OrderKind::kMaintenance) condition_.health = Health::kUnknown;
    order_.reset();
    settle();
  }
  void configure_drain() {
    backend_.drain = true;
    settle();
  }
  void lose_connections() {
    connections_ = 0;
    settle();
  }

  std::string state() const { return std::string(meaning_of(effective().serving).name); }
  BackendState effect() const { return effective().state; }
  bool slow() const { return pool_.slow_start > 0s; }

 private:
  Member member() const { return {pool_, backend_, order_ ? &*order_ : nullptr}; }
  int64_t unix_s() const { return std::chrono::duration_cast<std::chrono::seconds>(now_ - kBegin).count(); }
  void settle() { advance(member(), {now_, unix_s()}, connections_, &condition_); }
  EffectiveBackend effective() const {
    return effective_backend(pool_, backend_, order_ ? &*order_ : nullptr, condition_);
  }

  static constexpr model::SteadyTime kBegin{1h};
  model::SteadyTime now_ = kBegin;
  model::Pool pool_;
  model::BackendSpec backend_;
  std::optional<model::OperatorOrder> order_;
  model::BackendCondition condition_;
  HealthState checks_;
  uint64_t connections_ = 5;
};

// Everyone that gets into a state, with a slow start and without.
std::vector<Life> lives_in(const std::string &state) {
  using Steps = std::function<void(Life *)>;
  const auto begin = [](Life *life) { life->succeed(); };
  const auto go_up = [](Life *life) { life->succeed(), life->pass(kSlowStart); };
  const auto try_again = [=](Life *life) { go_up(life), life->see(true, false), life->see(false, true); };
  static const std::map<std::string, std::vector<Steps>> kWays = {
      {"unknown", {[](Life *) {}}},
      {"starting", {begin, try_again}},
      {"up", {go_up}},
      {"failing",
       {[=](Life *life) { go_up(life), life->fail(); }, [=](Life *life) { begin(life), life->fail(); }}},
      {"down", {[=](Life *life) { go_up(life), life->fail(3); }, [](Life *life) { life->fail(3); }}},
      {"ejected", {[=](Life *life) { go_up(life), life->see(true, false); }}},
      {"draining", {[=](Life *life) { go_up(life), life->order(model::OrderKind::kDrain); }}},
      {"drained",
       {[=](Life *life) { go_up(life), life->order(model::OrderKind::kDrain), life->lose_connections(); },
        [=](Life *life) { go_up(life), life->order(model::OrderKind::kDrain), life->pass(kDeadline); }}},
      {"maintenance",
       {[=](Life *life) { go_up(life), life->order(model::OrderKind::kMaintenance); },
        [=](Life *life) {
          go_up(life), life->order(model::OrderKind::kMaintenance), life->pass(kDeadline);
        }}}};
  std::vector<Life> lives;
  for (const Steps &steps : kWays.at(state)) {
    for (const auto slow_start : {0s, std::chrono::seconds(kSlowStart)}) {
      Life life(slow_start);
      steps(&life);
      if (life.state() == state) lives.push_back(life);
    }
  }
  return lives;
}

// Where an event leads: each function is a way in which it happens.
using Ways = std::vector<std::function<void(Life *)>>;

void come_and_go(Life *life) {
  life->damp();
  life->succeed(2), life->fail(3), life->succeed(2);
}

const std::map<std::string, Ways> &events() {
  static const Ways kOut = {
      [](Life *life) { life->order(model::OrderKind::kDrain); }, [](Life *life) { life->configure_drain(); },
      [](Life *life) { life->order(model::OrderKind::kDrain), life->lose_connections(); }};
  static const std::map<std::string, Ways> kEvents = {
      {"first success of a new backend", {[](Life *life) { life->succeed(); }}},
      {"`fall` failures in a row", {[](Life *life) { life->fail(3); }}},
      {"the first of them", {[](Life *life) { life->fail(); }}},
      {"a success after fewer", {[](Life *life) { life->succeed(); }}},
      {"`rise` successes in a row", {[](Life *life) { life->succeed(2); }, come_and_go}},
      {"the last of `falls` downs within `window`, then well", {come_and_go}},
      {"`hold` has passed without a failure", {[](Life *life) { come_and_go(life), life->pass(kHold); }}},
      {"a step of `slow_start`",
       {[](Life *life) { life->pass(1s); }, [](Life *life) { life->pass(kSlowStart); }}},
      {"too many of its clients get nowhere (`passive`)", {[](Life *life) { life->see(true, false); }}},
      {"the ejection's time is over, or nobody else serves", {[](Life *life) { life->see(false, true); }}},
      {"`probes` connections of its went on", {[](Life *life) { life->see(false, false); }}},
      {"one of them failed", {[](Life *life) { life->see(true, false); }}},
      {"drain, or `drain: true`", kOut},
      {"the drain's deadline", {[](Life *life) { life->pass(kDeadline); }}},
      {"undrain", {[](Life *life) { life->lift(); }}},
      {"maintenance", {[](Life *life) { life->order(model::OrderKind::kMaintenance); }}},
      {"end of maintenance", {[](Life *life) { life->lift(); }}}};
  return kEvents;
}

// The first words of a cell's parts.
Names first_words(const std::string &cell, char separator) {
  Names words;
  std::istringstream text(cell);
  for (std::string part; std::getline(text, part, separator);) {
    const size_t begin = part.find_first_not_of(' ');
    words.insert(part.substr(begin, part.find(' ', begin) - begin));
  }
  return words;
}

TEST(Events, lead_to_the_documented_states) {
  const std::vector<Cells> rows = documented_rows("event");
  EXPECT_EQ(rows.size(), events().size());
  for (const Cells &row : rows) {
    const auto event = events().find(row[0]);
    ASSERT_NE(event, events().end()) << row[0];
    Names reached;
    for (const std::string &from : first_words(row[2], ',')) {
      const std::vector<Life> lives = lives_in(from);
      ASSERT_FALSE(lives.empty()) << row[0] << ": " << from;
      for (const Life &before : lives) {
        for (const auto &happen : event->second) {
          Life life = before;
          happen(&life);
          reached.insert(life.state());
        }
      }
    }
    EXPECT_EQ(reached, first_words(row[3], ';')) << row[0];
  }
}

TEST(Events, without_a_slow_start_lead_to_no_starting_backend) {
  for (const std::string from : {"unknown", "down"}) {
    for (Life life : lives_in(from)) {
      life.succeed(2);
      EXPECT_EQ(life.state(), life.slow() ? "starting" : "up");
    }
  }
}

TEST(ServingState, does_to_connections_what_is_documented) {
  const std::map<std::string, std::set<BackendState>> kEffects = {
      {"no: go on until the deadline; it is not checked", {kBackendDraining, kBackendClosed}},
      {"no: none are left, or they are given up", {kBackendDraining, kBackendClosed}},
      {"no: go on until the deadline", {kBackendDraining}},
      {"no: go on", {kBackendDraining}},
      {"no: TCP goes on, if it is open; all else goes elsewhere", {kBackendDown}},
      {"yes: go on", {kBackendUp}},
      {"yes, a part of its share: go on", {kBackendUp}}};
  for (const Cells &row : documented_rows("state |")) {
    std::set<BackendState> effects;
    for (const Life &life : lives_in(row[0])) effects.insert(life.effect());
    const std::string cells = row[1] + ": " + row[2];
    ASSERT_TRUE(kEffects.contains(cells)) << cells;
    EXPECT_EQ(effects, kEffects.at(cells)) << row[0];
  }
}

}  // namespace
}  // namespace sluice
