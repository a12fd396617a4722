// What changes something.
#include <chrono>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/render.h"
#include "controlplane/config/config_loader.h"
#include "controlplane/discovery/messages/registration.h"

namespace sluice::api {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxDrainDeadlineS = 30 * 24 * 3600;

const char *outcome_text(ChangeResult::Outcome outcome) {
  using enum ChangeResult::Outcome;
  switch (outcome) {
    case kApplied:
      return "applied";
    case kPending:
      return "pending";
    case kUnchanged:
      return "unchanged";
    default:
      return "refused";
  }
}

Response answer_to(const ChangeResult &change) {
  using Outcome = ChangeResult::Outcome;
  switch (change.outcome) {
    case Outcome::kNotFound:
      return problem(404, change.message);
    case Outcome::kConflict:
      return problem(409, change.message);
    case Outcome::kInvalidConfig:
      return problem(422, change.message, change.errors);
    case Outcome::kRefused:
      return problem(502, change.message);
    case Outcome::kApplied:
    case Outcome::kPending:
    case Outcome::kUnchanged:
      break;
  }
  return json_response(
      200,
      {{"result", outcome_text(change.outcome)}, {"message", change.message}, {"revision", change.revision}});
}

Response change_response(const ChangeResult &change) {
  Response response = answer_to(change);
  response.change = ChangeNote{.outcome = outcome_text(change.outcome), .revision = change.revision};
  return response;
}

// A change of one backend, with what it was before and is now.
template <typename Change>
Response change_backend(const Call &call, Change change) {
  const model::BackendKey key{call.names[0], call.names[1]};
  json before = call.control.backend_summary(key);
  Response response = change_response(change(key));
  response.change->before = std::move(before);
  response.change->after = call.control.backend_summary(key);
  return response;
}

// The query's "deadline" in seconds, or "none"; nothing when it is not there.
Result<std::optional<std::chrono::seconds>> parse_deadline(const Call &call) {
  const std::optional<std::string> text = call.parameter("deadline");
  if (!text) return std::optional<std::chrono::seconds>();
  if (*text == "none") return std::optional(model::kNoDeadline);
  const auto number = parse_number(*text, kMaxDrainDeadlineS);
  if (!number || *number == 0) {
    return Error{
        fmt::format("query parameter deadline: \"{}\" is neither none nor a number of seconds from 1 to {}",
                    *text, kMaxDrainDeadlineS)};
  }
  return std::optional(std::chrono::seconds(*number));
}

}  // namespace

Response post_drain(const Call &call) {
  const auto deadline = parse_deadline(call);
  if (!deadline.ok()) return problem(400, deadline.error().message);
  return change_backend(
      call, [&](const model::BackendKey &key) { return call.control.drain(key, deadline.value()); });
}

Response post_undrain(const Call &call) {
  return change_backend(call, [&](const model::BackendKey &key) { return call.control.undrain(key); });
}

Response post_maintenance(const Call &call) {
  const auto deadline = parse_deadline(call);
  if (!deadline.ok()) return problem(400, deadline.error().message);
  return change_backend(
      call, [&](const model::BackendKey &key) { return call.control.maintain(key, deadline.value()); });
}

Response delete_maintenance(const Call &call) {
  return change_backend(call,
                        [&](const model::BackendKey &key) { return call.control.end_maintenance(key); });
}

Response put_registration(const Call &call) {
  const Result<FoundBackend> backend = parse_registration(call.names[1], call.request.body);
  if (!backend.ok()) return problem(400, backend.error().message);
  return change_backend(call, [&](const model::BackendKey &key) {
    return call.control.put_registration(key.pool, backend.value());
  });
}

Response delete_registration(const Call &call) {
  return change_backend(call, [&](const model::BackendKey &key) {
    return call.control.remove_registration(key.pool, key.name);
  });
}

// Who may do what may be another thing now, whatever the dataplane's tables say.
Response post_reload(const Call &call) {
  Response response = change_response(call.control.reload());
  if (response.change->outcome == "unchanged") response.change->outcome = "applied";
  return response;
}

Response post_check_config(const Call &call) {
  const std::string file = call.parameter("file").value_or("request body");
  const LoadedConfig loaded = load_config(call.request.body, file);
  if (!loaded.ok()) {
    return problem(422, fmt::format("the configuration has {} error(s)", loaded.errors.size()),
                   loaded.errors);
  }
  uint64_t backends = 0;
  for (const model::Pool &pool : loaded.state->pools) backends += pool.backends.size();
  return json_response(200, {{"result", "valid"},
                             {"services", loaded.state->services.size()},
                             {"pools", loaded.state->pools.size()},
                             {"backends", backends}});
}

}  // namespace sluice::api
