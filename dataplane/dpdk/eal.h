// DPDK's environment: memory, cores, devices. One per process, and DPDK cannot start it twice.
#ifndef SLUICE_DPDK_EAL_H
#define SLUICE_DPDK_EAL_H

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"

namespace sluice {

enum class HugePages { kAuto, kOn, kOff };

/// What the EAL is started with.
struct EalOptions {
  HugePages huge_pages = HugePages::kAuto;
  size_t memory_mb = 256;         // what ports and workers will need
  std::vector<int> worker_cores;  // one worker each; lcore 1 is the first
  std::vector<int> main_cores;    // where the server's thread may run
  std::vector<std::string> pci;   // the only PCI devices that are touched
  std::string file_prefix;        // distinguishes processes; empty: "sluice-<pid>"
};

/// Free huge pages of every size, in MB.
size_t free_huge_page_mb();

/// The cores that this process may use, in order.
std::vector<int> allowed_cores();

/// Which cores workers and the server's thread run on.
struct CorePlan {
  std::vector<int> worker_cores;
  std::vector<int> main_cores;
  std::string explanation;  // for people
};

/// Gives each of `workers` workers a core of its own: of `wanted`, or of the last of `allowed`, so that
/// the first is left for the server and the kernel. The server's thread gets the cores that are left,
/// or shares when there are none.
/// Errors: more workers than cores, or a wanted core that is not allowed.
Result<CorePlan> plan_cores(size_t workers, const std::vector<int> &wanted, const std::vector<int> &allowed);

/// The started EAL. Its destructor ends it for good.
class Eal {
 public:
  /// Starts the EAL and routes DPDK's log into spdlog. Worker i is lcore i + 1.
  /// Errors: huge pages demanded and not there, or what DPDK says.
  static Result<std::unique_ptr<Eal>> start(const EalOptions &options);

  Eal(const Eal &) = delete;
  Eal &operator=(const Eal &) = delete;
  ~Eal();

  bool huge_pages() const { return huge_pages_; }
  /// What memory was chosen and why, for the preflight report.
  const std::string &memory_explanation() const { return memory_explanation_; }

 private:
  Eal() = default;

  bool huge_pages_ = false;
  std::string memory_explanation_;
};

}  // namespace sluice

#endif
