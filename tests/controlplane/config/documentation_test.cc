// docs/configuration.md says what the loader does.
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/config/document_reader.h"

namespace sluice {
namespace {

std::string documentation() {
  std::ostringstream text;
  text << std::ifstream(CONFIGURATION_MD).rdbuf();
  return text.str();
}

// The blocks of YAML: each a configuration.
std::vector<std::string> examples() {
  const std::string text = documentation();
  const std::regex block("```yaml\n([^`]*)```");
  std::vector<std::string> examples;
  for (std::sregex_iterator found(text.begin(), text.end(), block), end; found != end; ++found) {
    examples.push_back((*found)[1]);
  }
  return examples;
}

// The keys that the tables explain: `key` at the start of a row.
std::set<std::string> explained_keys() {
  const std::string text = documentation();
  const std::regex row("\\n\\| `([^`]+)` \\|");
  std::set<std::string> keys;
  for (std::sregex_iterator found(text.begin(), text.end(), row), end; found != end; ++found) {
    keys.insert((*found)[1]);
  }
  return keys;
}

TEST(ConfigurationDocumentation, explains_every_key_and_no_other) {
  const std::vector<std::string> keys = configuration_keys();
  EXPECT_EQ(explained_keys(), std::set<std::string>(keys.begin(), keys.end()));
}

TEST(ConfigurationDocumentation, examples_are_valid_and_have_every_key) {
  std::string text;
  for (const std::string &example : examples()) {
    const LoadedConfig loaded = load_config(example, "docs/configuration.md");
    EXPECT_TRUE(loaded.ok()) << loaded.errors_to_string();
    text += example;
  }
  for (const std::string &path : configuration_keys()) {
    const std::string key = path.substr(path.rfind('.') + 1);
    EXPECT_TRUE(std::regex_search(text, std::regex("\\b" + key + ":"))) << path;
  }
}

TEST(ConfigurationDocumentation, defaults_are_the_models) {
  const std::string text = documentation();
  const auto says = [&text](const std::string &key, const std::string &value) {
    const std::string row = "\n| `" + key + "` |";
    const size_t begin = text.find(row);
    const std::string line = text.substr(begin + 1, text.find('\n', begin + 1) - begin - 1);
    EXPECT_NE(line.find("| " + value + " |"), std::string::npos) << line;
  };
  const model::Pool pool;
  const model::Timeouts timeouts;
  says("removed_backend_grace",
       std::to_string(model::DesiredState{}.removed_backend_grace.count() / 3600) + "h");
  says("pools[].slots", std::to_string(pool.slots));
  says("pools[].fail_open", pool.fail_open ? "true" : "false");
  says("pools[].slow_start", std::to_string(pool.slow_start.count()) + "s");
  says("pools[].flap_damping.falls", std::to_string(model::FlapDamping{}.falls));
  says("pools[].flap_damping.window", std::to_string(model::FlapDamping{}.window.count()) + "s");
  says("pools[].flap_damping.hold", std::to_string(model::FlapDamping{}.hold.count()) + "s");
  says("pools[].backends[].priority", std::to_string(model::BackendSpec{}.priority));
  says("pools[].backends[].weight", std::to_string(model::BackendSpec{}.weight));
  says("pools[].health.status", std::to_string(model::HttpCheck{}.statuses[0].first) + "-" +
                                    std::to_string(model::HttpCheck{}.statuses[0].last));
  says("pools[].health.jitter", std::to_string(pool.health.jitter_percent));
  says("pools[].health.interval", std::to_string(pool.health.interval.count() / 1000) + "s");
  says("pools[].health.timeout", std::to_string(pool.health.timeout.count()) + "ms");
  says("pools[].health.rise", std::to_string(pool.health.rise));
  says("pools[].health.fall", std::to_string(pool.health.fall));
  says("pools[].discovery.timeout", std::to_string(pool.discovery.timeout.count() / 1000) + "s");
  says("pools[].discovery.max_backoff", std::to_string(pool.discovery.max_backoff.count() / 1000) + "s");
  says("pools[].discovery.weight", std::to_string(pool.discovery.weight));
  says("pools[].discovery.min_backends", std::to_string(pool.discovery.min_backends));
  says("pools[].discovery.max_lost_percent", std::to_string(pool.discovery.max_lost_percent));
  says("pools[].discovery.lost_hold", std::to_string(pool.discovery.lost_hold.count() / 1000) + "s");
  const model::ApiLimits limits;
  says("api.limits.connections", std::to_string(limits.connections));
  says("api.limits.connections_per_address", std::to_string(limits.connections_per_address));
  says("api.limits.requests_per_second", std::to_string(limits.requests_per_second));
  says("api.limits.failures_per_minute", std::to_string(limits.failures_per_minute));
  says("api.limits.header_timeout", std::to_string(limits.header_timeout.count() / 1000) + "s");
  says("api.limits.body_timeout", std::to_string(limits.body_timeout.count() / 1000) + "s");
  says("api.limits.idle_timeout", std::to_string(limits.idle_timeout.count() / 1000) + "s");
  const model::PassiveHealth passive;
  std::string signals;
  for (size_t i = 0; i < model::kPassiveSignals; i++)
    if (passive.signals[i]) signals.append(signals.empty() ? "" : ", ").append(model::kPassiveSignalNames[i]);
  says("pools[].passive.signals", "[" + signals + "]");
  says("pools[].passive.consecutive", std::to_string(passive.consecutive));
  says("pools[].passive.failure_rate", std::to_string(passive.failure_rate_percent));
  says("pools[].passive.window", std::to_string(passive.window.count() / 1000) + "s");
  says("pools[].passive.min_connections", std::to_string(passive.min_connections));
  says("pools[].passive.ejection", std::to_string(passive.ejection.count() / 1000) + "s");
  says("pools[].passive.max_ejection",
       std::to_string(passive.max_ejection.count() / 60000) + "m, or `ejection` if that is longer");
  says("pools[].passive.max_ejected", std::to_string(passive.max_ejected_percent));
  says("pools[].passive.probes", std::to_string(passive.probes));
  says("services[].timeouts.embryonic", std::to_string(timeouts.embryonic.count()) + "s");
  says("services[].timeouts.established", std::to_string(timeouts.established.count()) + "s");
  says("services[].timeouts.closing", std::to_string(timeouts.closing.count()) + "s");
  says("services[].timeouts.udp", std::to_string(timeouts.udp.count()) + "s");
}

}  // namespace
}  // namespace sluice
