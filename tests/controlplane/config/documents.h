// Documents for the tests of the configuration's loader, and what it makes of them.
#ifndef SLUICE_TESTS_CONTROLPLANE_CONFIG_DOCUMENTS_H
#define SLUICE_TESTS_CONTROLPLANE_CONFIG_DOCUMENTS_H

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "controlplane/config/config_loader.h"

namespace sluice {

// "line:column: field: message" of each error.
inline std::vector<std::string> errors_of(const std::string &yaml) {
  std::vector<std::string> errors;
  const LoadedConfig loaded = load_config(yaml, "f");
  EXPECT_EQ(loaded.ok(), loaded.errors.empty());
  for (const ConfigError &error : loaded.errors) {
    const std::string text = error.to_string();
    EXPECT_EQ(text.substr(0, 2), "f:");
    errors.push_back(text.substr(2));
  }
  return errors;
}

inline model::DesiredState state_of(const std::string &yaml) {
  const LoadedConfig loaded = load_config(yaml, "f");
  EXPECT_TRUE(loaded.ok()) << loaded.errors_to_string();
  return loaded.state.value_or(model::DesiredState{});
}

inline const std::string kPoolWeb =
    "pools:\n"
    "- {name: web, backends: [{name: b1, address: 10.1.0.11}]}\n";

// A document with one service on lines 3 to 7; `lines` replaces the line of the same key.
inline std::string with_service(const std::string &key = "", const std::string &line = "") {
  const auto pick = [&](const std::string &name, const std::string &usual) {
    std::string picked = "  ";
    picked += name == key ? line : usual;
    picked += "\n";
    return picked;
  };
  return "version: 1\nservices:\n- name: s\n" + pick("vips", "vips: [198.51.100.10]") +
         pick("protocol", "protocol: tcp") + pick("ports", "ports: [80]") + pick("pool", "pool: web") +
         (key == "more" ? "  " + line + "\n" : "") + kPoolWeb;
}

// A document with one pool, whose lines from the fifth on are `lines`.
inline std::string with_pool(const std::string &lines) {
  return "version: 1\nservices: []\npools:\n- name: web\n" + lines;
}

inline std::string with_backend(const std::string &backend) {
  return with_pool("  backends:\n  - " + backend + "\n");
}

inline std::string with_health(const std::string &health) {
  return with_pool("  backends: []\n  health: " + health + "\n");
}

inline std::string with_passive(const std::string &passive) {
  return with_pool("  backends: []\n  passive: " + passive + "\n");
}

}  // namespace sluice

#endif
