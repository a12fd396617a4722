// The API's answers as text for people.
#ifndef SLUICE_TOOLS_SLUICECTL_PRESENT_H
#define SLUICE_TOOLS_SLUICECTL_PRESENT_H

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace sluice::ctl {

/// Which rows of the counters to show.
enum class Rows { kNonZero, kAll };

// Each takes the body of one answer. A field that is missing (another version of sluiced) throws
// nlohmann::json::exception, which the caller reports.
std::string present_status(const nlohmann::json &body);
std::string present_services(const nlohmann::json &body);
std::string present_service(const nlohmann::json &body);
std::string present_backends(const nlohmann::json &body);
std::string present_connections(const nlohmann::json &body);
std::string present_counters(const nlohmann::json &body, Rows rows);
std::string present_discovery(const nlohmann::json &body);
std::string present_valid_config(const nlohmann::json &body);

/// A problem document: its detail, and one line for each error in it. `fallback` when it is none.
std::string present_problem(const std::string &body, const std::string &fallback);

}  // namespace sluice::ctl

#endif
