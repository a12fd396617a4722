// What the kernel of this host can do of what the XDP engine uses, found out by trying: version numbers say
// little where distributions carry features back.
#ifndef SLUICE_XDP_KERNEL_FEATURES_H
#define SLUICE_XDP_KERNEL_FEATURES_H

#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

struct KernelFeatures {
  std::string release;           // "6.1.0-18-amd64"
  std::string lacks;             // what the programs cannot do without; empty: nothing
  bool several_buffers = false;  // programs for frames in several buffers, Linux 5.18
  bool live_frames = false;      // test runs whose frames are real, Linux 5.18
};

/// Errors: no permission to try.
[[nodiscard]] Result<KernelFeatures> probe_kernel();

}  // namespace sluice

#endif
