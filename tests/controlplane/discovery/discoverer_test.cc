// The discoverer over real files and its own clock, with sources that need nothing but a directory.
#include "controlplane/discovery/discoverer.h"

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
