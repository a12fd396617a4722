// The discoverer over real files and its own clock, with sources that need nothing but a directory.
#include "controlplane/discovery/discoverer.h"

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "controlplane/discovery/found_store.h"
#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Outcome = Registered::Outcome;

constexpr auto kGiveUp = 30s;

class DiscovererTest : public testing::Test {
 protected:
  void SetUp() override { restart(); }

  void restart() {
    discoverer_.reset();
    auto started = Discoverer::start({.directory = directory_.path() / "state", .seed = 7}, [this] {
      const std::lock_guard lock(mutex_);
      ++changes_;
      changed_.notify_all();
    });
    ASSERT_TRUE(started.ok());
    discoverer_ = std::move(started).value();
  }

  std::filesystem::path path(const std::string &name) const { return directory_.path() / name; }

  // In one step, as an editor or a tool that means well does it.
  void put(const std::string &name, const std::string &text) const {
    std::ofstream(path(name + ".tmp")) << text;
    std::filesystem::rename(path(name + ".tmp"), path(name));
  }

  model::DesiredState with(const model::SourceKind &kind) const {
    model::DesiredState state;
    model::Pool pool;
    pool.name = "web";
    pool.discovery.kind = kind;
    pool.discovery.interval = 1h;  // events alone have to do
    pool.discovery.lost_hold = 100ms;
    pool.discovery.max_backoff = 100ms;
    state.pools.push_back(pool);
    return state;
  }

  model::DesiredState with_file() const { return with(model::FileSource{path("web.yaml")}); }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    const FoundPools found = discoverer_->found();
    const auto of_web = found.find("web");
    if (of_web == found.end()) return {"no such pool"};
    for (const FoundBackend &backend : *of_web->second) names.push_back(backend.name);
    return names;
  }

  template <typename Condition>
  bool wait_until(Condition condition) {
    std::unique_lock lock(mutex_);
    const auto deadline = std::chrono::steady_clock::now() + kGiveUp;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      changed_.wait_for(lock, 10ms);
    }
    return true;
  }

  bool finds(const std::vector<std::string> &expected) {
    return wait_until([&] { return names() == expected; });
  }

  bool says(const std::string &part) {
    return wait_until([&] {
      const auto reports = discoverer_->reports();
      return !reports.empty() && reports[0].text.find(part) != std::string::npos;
    });
  }

  std::string text() const { return discoverer_->reports().at(0).text; }

  TemporaryDirectory directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int changes_ = 0;
  std::unique_ptr<Discoverer> discoverer_;
};

TEST_F(DiscovererTest, follows_a_file_that_is_replaced) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  put("web.yaml", "[{name: b1, address: 10.0.0.1}, {name: b2, address: \"2001:db8::2\"}]");
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
}

TEST_F(DiscovererTest, follows_a_file_that_is_written_in_place) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  std::ofstream(path("web.yaml"))
      << R"([{"name": "b1", "address": "10.0.0.1"}, {"name": "b2", "address": "10.0.0.2"}])";
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
}

// web.yaml -> ..data/web.yaml, ..data -> ..1: Kubernetes swaps the second link.
TEST_F(DiscovererTest, follows_a_link_whose_target_is_swapped) {
  for (const char *version : {"..1", "..2"}) std::filesystem::create_directory(path(version));
  put("..1/web.yaml", "[{name: b1, address: 10.0.0.1}]");
  put("..2/web.yaml", "[{name: b1, address: 10.0.0.1}, {name: b2, address: 10.0.0.2}]");
  std::filesystem::create_symlink("..1", path("..data"));
  std::filesystem::create_symlink("..data/web.yaml", path("web.yaml"));
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  std::filesystem::create_symlink("..2", path("..data_tmp"));
  std::filesystem::rename(path("..data_tmp"), path("..data"));
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
}

TEST_F(DiscovererTest, keeps_the_last_good_content_of_a_bad_file_and_says_so) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  put("web.yaml", "[{name: b1");
  EXPECT_TRUE(says("web.yaml: line 1")) << text();
  EXPECT_TRUE(says("1 backend of")) << text();
  std::filesystem::remove(path("web.yaml"));
  EXPECT_TRUE(says("web.yaml: No such file")) << text();
  EXPECT_THAT(names(), ElementsAre("b1"));
  put("web.yaml", "[{name: b2, address: 10.0.0.2}, {name: b1, address: 10.0.0.1}]");
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
}

TEST_F(DiscovererTest, follows_a_file_whose_directory_comes_later) {
  discoverer_->set_sources(with(model::FileSource{path("later/web.yaml")}));
  EXPECT_TRUE(says("No such file")) << text();
  std::filesystem::create_directory(path("later"));
  put("later/web.yaml", "[{name: b1, address: 10.0.0.1}]");
  EXPECT_TRUE(finds({"b1"})) << text();
  put("later/web.yaml", "[{name: b1, address: 10.0.0.1}, {name: b2, address: 10.0.0.2}]");
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
}

TEST_F(DiscovererTest, refuses_an_empty_list_and_keeps_what_it_had) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  put("web.yaml", "[]");
  EXPECT_TRUE(says("the source gave 0 backends, fewer than min_backends, which is 1; 1 backend of"))
      << text();
  EXPECT_THAT(names(), ElementsAre("b1"));
}

TEST_F(DiscovererTest, takes_a_great_loss_only_after_a_while_though_the_file_says_nothing_more) {
  put("web.yaml",
      "[{name: b1, address: 10.0.0.1}, {name: b2, address: 10.0.0.2}, {name: b3, address: 10.0.0.3}]");
  model::DesiredState state = with_file();
  state.pools[0].discovery.lost_hold = 1s;
  discoverer_->set_sources(state);
  EXPECT_TRUE(finds({"b1", "b2", "b3"})) << text();
  put("web.yaml", "[{name: b3, address: 10.0.0.3}]");
  EXPECT_TRUE(says("takes 2 of 3 backends away at once")) << text();
  EXPECT_THAT(names(), ElementsAre("b1", "b2", "b3"));
  EXPECT_TRUE(finds({"b3"})) << text();
}

TEST_F(DiscovererTest, begins_with_what_was_found_before_a_restart_while_the_source_is_dead) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1, weight: 7}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  std::filesystem::remove(path("web.yaml"));
  restart();
  discoverer_->set_sources(with_file());
  EXPECT_THAT(names(), ElementsAre("b1")) << "at once";
  EXPECT_EQ((*discoverer_->found().at("web"))[0].weight, 7);
  EXPECT_TRUE(says("No such file or directory; failing for")) << text();
  EXPECT_THAT(names(), ElementsAre("b1"));
}

// b1 and b2, without a source.
model::DesiredState static_pool(model::DesiredState state) {
  state.pools[0].discovery = {};
  state.pools[0].backends = {{.name = "b2", .address = *parse_address("10.0.0.2"), .weight = 7},
                             {.name = "b1", .address = *parse_address("10.0.0.1")}};
  return state;
}

TEST_F(DiscovererTest, keeps_the_configurations_backends_of_before_until_a_new_source_answers) {
  discoverer_->set_sources(static_pool(with_file()));
  EXPECT_EQ(discoverer_->found_for(with_file()).at("web")->size(), 2u);
  EXPECT_THAT(names(), ElementsAre("no such pool")) << "only asked for";
  discoverer_->set_sources(with_file());
  ASSERT_THAT(names(), ElementsAre("b1", "b2")) << "at once";
  EXPECT_EQ((*discoverer_->found().at("web"))[1].weight, 7);
  EXPECT_TRUE(says("2 backends that the configuration had before are kept")) << text();
  restart();
  discoverer_->set_sources(with_file());
  EXPECT_THAT(names(), ElementsAre("b1", "b2"));
  EXPECT_TRUE(says("2 backends that the configuration had before are kept")) << text();
  put("web.yaml", "[{name: n1, address: 10.0.0.1}, {name: n2, address: 10.0.0.2}]");
  EXPECT_TRUE(finds({"n1", "n2"})) << "other names are no loss: " << text();
}

TEST_F(DiscovererTest, keeps_nothing_that_the_configuration_still_has) {
  model::DesiredState next = with_file();
  next.pools[0].backends.push_back({.name = "b1", .address = *parse_address("10.0.0.1")});
  discoverer_->set_sources(static_pool(with_file()));
  discoverer_->set_sources(next);
  EXPECT_THAT(names(), ElementsAre("b2"));
}

TEST_F(DiscovererTest, a_backend_that_registers_takes_the_place_of_the_configured_one_at_its_address) {
  model::DesiredState registering = with(model::RegistrationSource{});
  registering.pools[0].discovery.max_lost_percent = 0;
  registering.pools[0].discovery.lost_hold = 1h;
  discoverer_->set_sources(static_pool(with_file()));
  discoverer_->set_sources(registering);
  FoundBackend new_name;
  new_name.name = "n1";
  new_name.address = *parse_address("10.0.0.1");
  new_name.ttl = 1h;
  EXPECT_EQ(discoverer_->put_registration("web", new_name).outcome, Outcome::kTaken);
  EXPECT_THAT(names(), ElementsAre("b2", "n1")) << text();
}

TEST_F(DiscovererTest, follows_a_source_that_changes_all_the_time_only_so_often_and_to_its_last_word) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1, weight: 1}]");
  const auto begin = std::chrono::steady_clock::now();
  discoverer_->set_sources(with_file());
  for (int weight = 2; weight <= 1000; ++weight) {
    put("web.yaml", "[{name: b1, address: 10.0.0.1, weight: " + std::to_string(weight) + "}]");
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(wait_until([&] {
    const auto backends = discoverer_->found().at("web");
    return !backends->empty() && backends->front().weight == 1000;
  })) << text();
  const std::lock_guard lock(mutex_);
  EXPECT_LE(changes_, (std::chrono::steady_clock::now() - begin) / 250ms + 1);
}

TEST_F(DiscovererTest, writes_changes_by_itself_and_heartbeats_not_at_all) {
  discoverer_->set_sources(with(model::RegistrationSource{}));
  FoundBackend backend;
  backend.name = "b1";
  backend.address = *parse_address("10.0.0.1");
  backend.ttl = 1h;
  discoverer_->put_registration("web", backend);
  EXPECT_TRUE(wait_until([&] { return std::filesystem::exists(path("state/web.json")); }));
  restart();
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(stat(path("state/web.json").c_str(), &before), 0);
  discoverer_->set_sources(with(model::RegistrationSource{}));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(discoverer_->put_registration("web", backend).outcome, Outcome::kUnchanged);
  restart();
  ASSERT_EQ(stat(path("state/web.json").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino) << "each writing makes another file";
}

TEST_F(DiscovererTest, has_after_a_restart_what_a_reload_made_room_for) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}, {name: b2, address: 10.0.0.2}]");
  model::DesiredState state = with_file();
  state.pools[0].slots = 1;
  discoverer_->set_sources(state);
  EXPECT_TRUE(says("has 1 slots")) << text();
  state.pools[0].slots = 101;
  discoverer_->set_sources(state);
  EXPECT_TRUE(finds({"b1", "b2"})) << text();
  std::filesystem::remove(path("web.yaml"));
  restart();
  discoverer_->set_sources(state);
  EXPECT_THAT(names(), ElementsAre("b1", "b2"));
}

TEST_F(DiscovererTest, a_pool_that_goes_and_comes_back_has_what_it_had) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  std::filesystem::remove(path("web.yaml"));
  discoverer_->set_sources({});
  discoverer_->set_sources(with_file());
  EXPECT_THAT(names(), ElementsAre("b1")) << "at once";
  discoverer_->set_sources({});
  restart();
  EXPECT_FALSE(std::filesystem::exists(path("state/web.json")));
  discoverer_->set_sources(with_file());
  EXPECT_THAT(names(), ElementsAre("b1"));
  restart();
  EXPECT_TRUE(std::filesystem::exists(path("state/web.json"))) << "it is in use again";
}

TEST(FoundStore, lets_go_of_what_was_put_aside_a_day_ago) {
  const TemporaryDirectory directory;
  const FoundStore store(directory.path() / "found");
  ASSERT_TRUE(store.save("web", {.backends = std::make_shared<const std::vector<FoundBackend>>()}).ok());
  const auto now = std::filesystem::file_time_type::clock::now();
  ASSERT_TRUE(store.keep_only({}, now).ok());
  ASSERT_TRUE(store.keep_only({}, now + 23h).ok());
  EXPECT_TRUE(store.load("web").value().has_value()) << "it came back in time";
  ASSERT_TRUE(store.keep_only({"web"}, now + 1000h).ok());
  EXPECT_TRUE(store.load("web").value().has_value()) << "it is in use";
  ASSERT_TRUE(store.keep_only({}, now).ok());
  ASSERT_TRUE(store.keep_only({}, now + 25h).ok());
  EXPECT_FALSE(store.load("web").value().has_value());
}

TEST_F(DiscovererTest, begins_with_nothing_where_its_own_file_is_damaged) {
  std::filesystem::create_directories(path("state"));
  std::ofstream(path("state/web.json")) << "{\"version\": 1, \"backends\": [{\"name\": \"b1\"}]}";
  discoverer_->set_sources(with_file());
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(DiscovererTest, keeps_what_was_found_over_a_reload_and_drops_it_with_the_pools_source) {
  put("web.yaml", "[{name: b1, address: 10.0.0.1}]");
  discoverer_->set_sources(with_file());
  EXPECT_TRUE(finds({"b1"})) << text();
  discoverer_->set_sources(with(model::FileSource{path("other.yaml")}));
  EXPECT_THAT(names(), ElementsAre("b1"));
  EXPECT_TRUE(says("other.yaml: No such file")) << text();
  EXPECT_THAT(names(), ElementsAre("b1"));
  discoverer_->set_sources(with(model::NoSource{}));
  EXPECT_THAT(names(), ElementsAre("no such pool"));
  EXPECT_THAT(discoverer_->reports(), IsEmpty());
}

TEST_F(DiscovererTest, takes_an_answer_that_was_too_large_when_the_pool_has_grown) {
  std::string list;
  for (int i = 1; i <= 102; ++i) list += "- {address: 10.0.0." + std::to_string(i) + "}\n";
  put("web.yaml", list);
  model::DesiredState state = with_file();
  state.pools[0].slots = 101;
  discoverer_->set_sources(state);
  EXPECT_TRUE(says("gave 102 backends: pool web would have 102 backends and has 101 slots")) << text();
  EXPECT_THAT(names(), IsEmpty());
  state.pools[0].slots = 10007;
  discoverer_->set_sources(state);
  EXPECT_TRUE(wait_until([&] { return names().size() == 102; })) << text();
}

FoundBackend registration(const std::string &name, const std::string &address,
                          std::chrono::milliseconds ttl) {
  FoundBackend backend;
  backend.name = name;
  backend.address = *parse_address(address);
  backend.ttl = ttl;
  return backend;
}

TEST_F(DiscovererTest, has_registered_backends_until_they_go_or_are_not_heard_of) {
  discoverer_->set_sources(with(model::RegistrationSource{}));
  EXPECT_EQ(discoverer_->put_registration("web", registration("b1", "10.0.0.1", 1h)).outcome,
            Outcome::kTaken);
  EXPECT_EQ(discoverer_->put_registration("web", registration("b2", "10.0.0.2", 1s)).outcome,
            Outcome::kTaken);
  EXPECT_EQ(discoverer_->put_registration("web", registration("b2", "10.0.0.2", 1s)).outcome,
            Outcome::kUnchanged);
  EXPECT_THAT(names(), ElementsAre("b1", "b2"));
  EXPECT_TRUE(finds({"b1"})) << text();
  EXPECT_EQ(discoverer_->remove_registration("web", "b1").outcome, Outcome::kTaken);
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_EQ(discoverer_->remove_registration("web", "b1").outcome, Outcome::kNotFound);
}

TEST_F(DiscovererTest, keeps_the_last_registered_backend_when_all_fall_silent) {
  discoverer_->set_sources(with(model::RegistrationSource{}));
  discoverer_->put_registration("web", registration("b1", "10.0.0.1", 100ms));
  EXPECT_TRUE(says("the source gave 0 backends, fewer than min_backends")) << text();
  EXPECT_THAT(names(), ElementsAre("b1"));
  EXPECT_EQ(discoverer_->remove_registration("web", "b1").outcome, Outcome::kTaken);
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(DiscovererTest, one_that_is_heard_of_again_takes_none_of_the_silent_ones_out) {
  model::DesiredState state = with(model::RegistrationSource{});
  state.pools[0].discovery.lost_hold = 1h;
  state.pools[0].discovery.max_lost_percent = 0;
  discoverer_->set_sources(state);
  for (const char *name : {"b1", "b2", "b3"})
    discoverer_->put_registration("web", registration(name, std::string("10.0.0.") + name[1], 100ms));
  EXPECT_TRUE(says("fewer than min_backends")) << text();
  EXPECT_EQ(discoverer_->put_registration("web", registration("b2", "10.0.0.2", 1h)).outcome,
            Outcome::kTaken);
  EXPECT_THAT(names(), ElementsAre("b1", "b2", "b3"));
  EXPECT_TRUE(says("takes 2 of 3 backends away at once")) << text();
  EXPECT_EQ(discoverer_->put_registration("web", registration("b2", "10.0.0.2", 1h)).outcome,
            Outcome::kUnchanged);
}

TEST_F(DiscovererTest, has_registrations_after_a_restart_for_their_whole_time) {
  discoverer_->set_sources(with(model::RegistrationSource{}));
  discoverer_->put_registration("web", registration("b1", "10.0.0.1", 1h));
  discoverer_->put_registration("web", registration("b2", "10.0.0.2", 500ms));
  restart();
  discoverer_->set_sources(with(model::RegistrationSource{}));
  EXPECT_THAT(names(), ElementsAre("b1", "b2"));
  EXPECT_TRUE(finds({"b1"})) << text();
}

TEST_F(DiscovererTest, refuses_registrations_that_contradict_others) {
  model::DesiredState state = with(model::RegistrationSource{});
  state.services.push_back(
      {.name = "web", .vips = {*parse_address("198.51.100.10")}, .ports = {{80, 80}}, .pool = "web"});
  state.pools[0].backends.push_back({.name = "own", .address = *parse_address("10.0.0.9")});
  state.pools.push_back({.name = "static"});
  discoverer_->set_sources(state);
  discoverer_->put_registration("web", registration("b1", "10.0.0.1", 1h));
  const auto refused = [&](const std::string &pool, const std::string &name, const std::string &address) {
    return discoverer_->put_registration(pool, registration(name, address, 1h));
  };
  EXPECT_EQ(refused("web", "b2", "10.0.0.1").message, "b1 is registered with the address 10.0.0.1");
  EXPECT_EQ(refused("web", "b2", "198.51.100.10").message, "b2: 198.51.100.10 is a VIP");
  EXPECT_EQ(refused("web", "own", "10.0.0.2").message,
            "own (10.0.0.2): the configuration has a backend of that name");
  EXPECT_EQ(refused("web", "own", "10.0.0.2").outcome, Outcome::kConflict);
  EXPECT_EQ(refused("none", "b2", "10.0.0.2").outcome, Outcome::kNotFound);
  EXPECT_EQ(refused("static", "b2", "10.0.0.2").outcome, Outcome::kNotFound);
  EXPECT_THAT(names(), ElementsAre("b1"));
}

}  // namespace
}  // namespace sluice
