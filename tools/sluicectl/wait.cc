#include "tools/sluicectl/wait.h"

#include <chrono>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

#include "tools/sluicectl/client.h"
#include "tools/sluicectl/present.h"
#include "tools/sluicectl/table.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kPollInterval{500};

std::optional<json> find_backend(const json &body, const std::string &name) {
  for (const json &backend : body.at("backends")) {
    const bool is_removed = backend.at("state") == "removed";
    if (!is_removed && backend.at("name") == name) return backend;
  }
  return std::nullopt;
}

// What is left, in words.
std::string progress_of(const json &backend) {
  const json &left = backend.at("connections_left");
  std::string text = "connections left: " + (left.is_null() ? "not known" : grouped(left.get<uint64_t>()));
  const json &ends = backend.at("drain_ends_s");
  if (!ends.is_null()) text += ", given up in " + span_text(ends.get<int64_t>());
  return text;
}

bool is_being_drained(const json &backend) {
  const std::string state = backend.at("state");
  return state == "draining" || state == "drained" || state == "maintenance";
}

}  // namespace

int wait_until_drained(const Context &context, const std::string &backend) {
  const size_t slash = backend.find('/');
  const std::string target = with_parameters("/v1/backends", {{"pool", backend.substr(0, slash)}});
  std::string told;
  while (true) {
    const Result<Answer> asked = ask(context.endpoint, "GET", target, "");
    if (!asked.ok()) return report_failure(context, kExitUnreachable, asked.error().message);
    const json body = json::parse(asked.value().body, nullptr, false);
    if (asked.value().status != 200 || !body.is_object())
      return report_failure(context, kExitFailure,
                            present_problem(asked.value().body, "no list of backends"));
    const std::optional<json> found = find_backend(body, backend.substr(slash + 1));
    if (!found) return report_failure(context, kExitNotFound, backend + " is no longer there");
    if (!is_being_drained(*found)) {
      return report_failure(
          context, kExitFailure,
          backend + " is no longer being drained: " + found->at("state").get<std::string>());
    }
    if (found->at("drain_over").get<bool>()) {
      context.err << backend << ": " << found->at("reason").get<std::string>() << std::endl;
      return kExitOk;
    }
    const std::string progress = progress_of(*found);
    if (progress != told) context.err << backend << ": " << progress << std::endl;
    told = progress;
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace sluice::ctl
