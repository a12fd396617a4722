// Carries out one check, for the tests against real servers: `check_once ADDRESS < health.yaml`, where the
// file is what a pool's "health" is in the configuration. Prints {"outcome", "text"}.
#include <iostream>
#include <iterator>
#include <string>

#include <nlohmann/json.hpp>

#include "controlplane/config/config_loader.h"
#include "controlplane/health/prober.h"

namespace sluice {
namespace {

const char *outcome_name(CheckOutcome outcome) {
  switch (outcome) {
    case CheckOutcome::kSuccess:
      return "success";
    case CheckOutcome::kFailure:
      return "failure";
    case CheckOutcome::kNotCarriedOut:
      break;
  }
  return "not carried out";
}

CheckResult check(const CheckSpec &spec) {
  std::optional<CheckResult> result;
  auto prober = Prober::create([&](uint64_t, const CheckResult &ended) { result = ended; });
  if (!prober.ok()) return not_carried_out(prober.error().message);
  prober.value()->start(0, spec);
  const auto give_up = Prober::Clock::now() + std::chrono::minutes(1);
  while (!result && Prober::Clock::now() < give_up) prober.value()->serve_until(give_up);
  return result.value_or(not_carried_out("the check never ended"));
}

int run(const std::string &address) {
  const std::string health(std::istreambuf_iterator<char>(std::cin), {});
  const std::string document =
      "version: 1\nservices: []\npools:\n- name: checked\n  backends: [{name: b, address: \"" + address +
      "\"}]\n  health: " + health + "\n";
  const LoadedConfig loaded = load_config(document, "health");
  if (!loaded.ok()) {
    std::cerr << loaded.errors_to_string() << "\n";
    return 2;
  }
  const model::Pool &pool = loaded.state->pools[0];
  const CheckResult result = check({.address = pool.backends[0].address,
                                    .l4_port = pool.health.port,
                                    .health = pool.health,
                                    .backend = {pool.name, pool.backends[0].name}});
  std::cout << nlohmann::json{{"outcome", outcome_name(result.outcome)}, {"text", result.text}} << "\n";
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char **argv) { return argc == 2 ? sluice::run(argv[1]) : 2; }
