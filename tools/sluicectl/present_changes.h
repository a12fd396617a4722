// What changes did, would do and were, for people.
#ifndef SLUICE_TOOLS_SLUICECTL_PRESENT_CHANGES_H
#define SLUICE_TOOLS_SLUICECTL_PRESENT_CHANGES_H

#include <string>

#include <nlohmann/json.hpp>

namespace sluice::ctl {

/// The answer to a change, or to a dry run of one: its plan, too.
std::string present_change(const nlohmann::json &body);
/// What differs, a line each: "~" changed, "+" new, "-" gone.
std::string present_changes(const nlohmann::json &body);
std::string present_revisions(const nlohmann::json &body);
/// The services that are concerned, with the share of slots and the connections that would move or break.
std::string present_plan(const nlohmann::json &plan);

}  // namespace sluice::ctl

#endif
