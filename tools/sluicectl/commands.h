// sluicectl's commands: each is one request, and its answer as a table or as JSON.
#ifndef SLUICE_TOOLS_SLUICECTL_COMMANDS_H
#define SLUICE_TOOLS_SLUICECTL_COMMANDS_H

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/sluicectl/client.h"
#include "tools/sluicectl/exit_codes.h"

namespace sluice::ctl {

enum class OutputFormat { kTable, kJson };

/// What every command needs.
struct Context {
  Endpoint endpoint;
  OutputFormat output = OutputFormat::kTable;
  std::ostream &out;
  std::ostream &err;
};

/// One request and what to make of a good answer.
struct Command {
  std::string method = "GET";
  std::string target;
  std::string body;
  std::function<std::string(const nlohmann::json &)> present;
};

/// Asks sluiced and prints the answer, or why there is none. Returns the exit code.
int run_command(const Context &context, const Command &command);

/// Prints a failure without an answer of sluiced, for people and, if asked for, as JSON. Returns `code`.
int report_failure(const Context &context, ExitCode code, const std::string &message);

/// "POOL/BACKEND" as the target of "drain" or "undrain"; empty when the name is no such pair.
std::string backend_target(const std::string &name, const std::string &action);

/// "POOL/NAME" as the target of a registration; empty when the name is no such pair.
std::string registration_target(const std::string &name);

/// A path with those parameters that are not empty.
struct Parameter {
  std::string name;
  std::string value;
};
std::string with_parameters(const std::string &path, const std::vector<Parameter> &parameters);

}  // namespace sluice::ctl

#endif
