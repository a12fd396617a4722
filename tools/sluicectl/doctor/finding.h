// What the doctor says of one thing that it has looked at.
#ifndef SLUICE_TOOLS_SLUICECTL_DOCTOR_FINDING_H
#define SLUICE_TOOLS_SLUICECTL_DOCTOR_FINDING_H

#include <string>
#include <vector>

namespace sluice::ctl {

enum class Outcome { kPass, kWarn, kFail };

struct Finding {
  std::string check;    // "huge-pages"
  std::string subject;  // of the check: "node 0", "port front"; empty: the host
  Outcome outcome = Outcome::kPass;
  std::string found;
  std::string mend;  // the command that mends it; empty with kPass
};

using Findings = std::vector<Finding>;

}  // namespace sluice::ctl

#endif
