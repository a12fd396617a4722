// The control loop in the test's thread, with a dataplane that does as the test says.
#ifndef SLUICE_TESTS_CONTROLPLANE_SLUICED_RECONCILER_FIXTURE_H
#define SLUICE_TESTS_CONTROLPLANE_SLUICED_RECONCILER_FIXTURE_H

#include <ctime>
#include <functional>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/sluiced/reconciler.h"
#include "tests/controlplane/sluiced/daemons.h"
#include "tests/controlplane/sluiced/obedient_dataplane.h"

namespace sluice {

inline const model::BackendKey kB1{"web", "b1"};
inline const model::BackendKey kB2{"web", "b2"};

class ReconcilerFixture : public testing::Test {
 protected:
  void configure(const std::string &members, const std::string &health = "{type: none}") const {
    write_text(config_path(), config_text(members, health));
  }

  /// Starts it (anew, with what was stored) on a configuration.
  void start(const std::string &members, const std::string &health = "{type: none}") {
    reconciler_.reset();
    dataplane_.go();
    dataplane_.come();
    configure(members, health);
    restart();
  }

  /// Starts it anew, with what was stored.
  void restart() {
    if (dataplane_.is_there()) socket_ = dataplane_.path();
    reconciler_.reset();
    auto store = StateStore::open(directory_.path() / "state");
    ASSERT_TRUE(store.ok());
    auto monitor = HealthMonitor::start(
        {}, [](const model::BackendKey &, const Address &, model::Health, const std::string &) {});
    ASSERT_TRUE(monitor.ok());
    monitor_ = std::move(monitor).value();
    auto discoverer =
        Discoverer::start({.directory = directory_.path() / "state" / "discovery", .seed = 7}, [] {});
    ASSERT_TRUE(discoverer.ok());
    discoverer_ = std::move(discoverer).value();
    auto history = ConfigurationHistory::open(directory_.path() / "state" / "revisions.db");
    ASSERT_TRUE(history.ok()) << history.error().message;
    const Result<std::string> text = read_config_file(config_path());
    ASSERT_TRUE(text.ok());
    auto desired = history.value().begin(config_path(), text.value(),
                                         load_config_file(config_path()).state.value(), std::time(nullptr));
    reconciler_ = std::make_unique<Reconciler>(Reconciler::Parts{.config_path = config_path(),
                                                                 .desired = std::move(desired),
                                                                 .store = std::move(store).value(),
                                                                 .link = DataplaneLink(socket_),
                                                                 .stored_flow_hash_key = {{1, 2, 3}},
                                                                 .history = std::move(history).value()});
    const Status started = reconciler_->start(monitor_.get(), discoverer_.get());
    ASSERT_TRUE(started.ok()) << started.error().message;
  }

  bool eventually_at_a_tick(const std::function<bool()> &condition) {
    return eventually([&] {
      reconciler_->tick();
      return condition();
    });
  }

  /// The dataplane goes, and sluiced has seen it.
  void lose_dataplane() {
    dataplane_.go();
    ASSERT_TRUE(eventually_at_a_tick([this] { return !reconciler_->link().connected(); }));
  }

  void get_dataplane_back() {
    dataplane_.come();
    ASSERT_TRUE(eventually_at_a_tick([this] { return reconciler_->link().connected(); }));
  }

  const model::BackendCondition &condition(const model::BackendKey &key) const {
    return reconciler_->observed().condition_of(key);
  }
  std::filesystem::path config_path() const { return directory_.path() / "sluice.yaml"; }

  TemporaryDirectory directory_;
  std::filesystem::path socket_;  // the dataplane's
  ObedientDataplane dataplane_;
  std::unique_ptr<HealthMonitor> monitor_;
  std::unique_ptr<Discoverer> discoverer_;
  std::unique_ptr<Reconciler> reconciler_;
};

}  // namespace sluice

#endif
