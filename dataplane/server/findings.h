// What a dry run found, stage by stage, in words and as values: the `stages` of `explain`.
#ifndef SLUICE_SERVER_FINDINGS_H
#define SLUICE_SERVER_FINDINGS_H

#include <string>

#include <nlohmann/json.hpp>

#include "dataplane/server/explain.h"

namespace sluice {

/// Name and help text of a verdict (dataplane/abi/verdicts.def).
struct VerdictText {
  std::string name;
  std::string kind;  // "forward", "reply", "pass" or "drop"
  std::string help;
};
VerdictText verdict_text(Verdict verdict);

/// An array with an object for each stage that the packet came to: {"stage", "finding", ...}.
nlohmann::json findings(const ExplainContext &context, const ExplainRequest &request, const DryRun &run);

/// "POOL/NAME" of a backend, or "backend N" when the snapshot has none of that number.
std::string backend_name(const MappedSnapshot &snapshot, uint16_t backend);

}  // namespace sluice

#endif
