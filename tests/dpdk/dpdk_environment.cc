// main() of tests that need DPDK: the EAL can be started once per process, with two workers' lcores.
#include <cstdio>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "dataplane/dpdk/eal.h"

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  spdlog::set_level(spdlog::level::warn);
  sluice::EalOptions options;
  options.huge_pages = sluice::HugePages::kOff;
  options.memory_mb = 512;
  options.main_cores = sluice::allowed_cores();
  // Two workers even where there is one core.
  options.worker_cores = {options.main_cores.front(), options.main_cores.back()};
  sluice::Result<std::unique_ptr<sluice::Eal>> eal = sluice::Eal::start(options);
  if (!eal.ok()) {
    std::fprintf(stderr, "%s\n", eal.error().message.c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
