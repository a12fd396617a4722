#include "tools/sluicectl/commands.h"

#include "controlplane/api/target.h"
#include "tools/sluicectl/present.h"
#include "tools/sluicectl/present_changes.h"

namespace sluice::ctl {

namespace {

ExitCode exit_code_of(long http_status) {
  switch (http_status) {
    case 400:
      return kExitUsage;
    case 404:
      return kExitNotFound;
    case 409:
    case 412:
      return kExitConflict;
    case 413:  // only a configuration is that large
    case 422:
      return kExitInvalidConfig;
    default:
      return kExitFailure;
  }
}

// A change that waits for the dataplane is no success: whoever drains a backend to stop it must not.
int exit_code_of(const nlohmann::json &body) {
  return body.is_object() && body.value("result", "") == "pending" ? kExitPending : kExitOk;
}

const char *title_of(ExitCode code) {
  switch (code) {
    case kExitUnreachable:
      return "sluiced is unreachable";
    case kExitUsage:
      return "Wrong usage";
    default:
      return "Failure";
  }
}

int report_problem(const Context &context, const Answer &answer) {
  const std::string what =
      present_problem(answer.body, "sluiced answered with HTTP status " + std::to_string(answer.status));
  if (!nlohmann::json::parse(answer.body, nullptr, false).is_object())
    return report_failure(context, exit_code_of(answer.status), what);
  if (context.output == OutputFormat::kJson) context.out << answer.body;
  context.err << "sluicectl: " << what << "\n";
  const nlohmann::json body = nlohmann::json::parse(answer.body, nullptr, false);
  if (context.output == OutputFormat::kTable && body.contains("plan"))
    context.err << present_plan(body.at("plan"));
  return exit_code_of(answer.status);
}

}  // namespace

int run_command(const Context &context, const Command &command) {
  const Result<Answer> asked = ask(context.endpoint, command.method, command.target, command.body);
  if (!asked.ok()) {
    return report_failure(context, kExitUnreachable, asked.error().message);
  }
  const Answer &answer = asked.value();
  if (answer.status != 200) return report_problem(context, answer);
  try {
    const nlohmann::json body = nlohmann::json::parse(answer.body);
    context.out << (context.output == OutputFormat::kJson ? body.dump(2) + "\n" : command.present(body));
    return exit_code_of(body);
  } catch (const nlohmann::json::exception &exception) {
    return report_failure(context, kExitFailure,
                          std::string("cannot read the answer of sluiced (") + exception.what() +
                              "); are sluicectl and sluiced of the same version?");
  }
}

int report_failure(const Context &context, ExitCode code, const std::string &message) {
  if (context.output == OutputFormat::kJson) {
    const nlohmann::json body = {{"title", title_of(code)}, {"detail", message}, {"exit_code", int{code}}};
    context.out << body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  }
  context.err << "sluicectl: " << message << "\n";
  return code;
}

std::string backend_target(const std::string &name, const std::string &action) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == name.size()) return "";
  return "/v1/backends/" + api::percent_encode(name.substr(0, slash)) + "/" +
         api::percent_encode(name.substr(slash + 1)) + "/" + action;
}

std::string registration_target(const std::string &name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == name.size()) return "";
  return "/v1/pools/" + api::percent_encode(name.substr(0, slash)) + "/registrations/" +
         api::percent_encode(name.substr(slash + 1));
}

std::string with_parameters(const std::string &path, const std::vector<Parameter> &parameters) {
  std::string target = path;
  char separator = '?';
  for (const Parameter &parameter : parameters) {
    if (parameter.value.empty()) continue;
    target += separator + parameter.name + "=" + api::percent_encode(parameter.value);
    separator = '&';
  }
  return target;
}

}  // namespace sluice::ctl
