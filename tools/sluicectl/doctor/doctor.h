// "sluicectl doctor": looks for what is wrong with the host, the daemons and their surroundings.
#ifndef SLUICE_TOOLS_SLUICECTL_DOCTOR_DOCTOR_H
#define SLUICE_TOOLS_SLUICECTL_DOCTOR_DOCTOR_H

#include <filesystem>

#include "tools/sluicectl/commands.h"
#include "tools/sluicectl/doctor/finding.h"

namespace sluice::ctl {

struct DoctorOptions {
  std::filesystem::path root = "/";  // of the host's files
};

/// Prints what was found, and returns kExitFailure when something failed. Without sluiced the host alone is
/// looked at. Takes some seconds where checks go through the data path: it waits for some of them.
int run_doctor(const Context &context, const DoctorOptions &options);

/// All of it, for people: the worst first.
std::string present_findings(Findings findings);

}  // namespace sluice::ctl

#endif
