// What changes something.
#include <algorithm>
#include <chrono>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/render.h"
#include "controlplane/api/tokens.h"
#include "controlplane/config/config_loader.h"
#include "controlplane/discovery/messages/registration.h"

namespace sluice::api {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxDrainDeadlineS = 30 * 24 * 3600;
constexpr uint64_t kMaxConfirmS = 24 * 3600;
constexpr size_t kMaxMessageBytes = 1024;

const char *outcome_text(ChangeResult::Outcome outcome) {
  using enum ChangeResult::Outcome;
  switch (outcome) {
    case kApplied:
      return "applied";
    case kPending:
      return "pending";
    case kUnchanged:
      return "unchanged";
    case kPlanned:
      return "planned";
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
    case Outcome::kTooMuch: {
      json body = {{"title", "Too much would move"}, {"status", 409}, {"detail", change.message}};
      if (change.plan) body["plan"] = to_json(*change.plan);
      Response response = json_response(409, body);
      response.content_type = "application/problem+json";
      return response;
    }
    case Outcome::kInvalidConfig:
      return problem(422, change.message, change.errors);
    case Outcome::kRefused:
      return problem(502, change.message);
    case Outcome::kApplied:
    case Outcome::kPending:
    case Outcome::kUnchanged:
    case Outcome::kPlanned:
      break;
  }
  return json_response(200, {{"result", outcome_text(change.outcome)},
                             {"message", change.message},
                             {"revision", change.revision},
                             {"snapshot", change.snapshot},
                             {"changes", change.changes},
                             {"plan", change.plan ? to_json(*change.plan) : json()}});
}

// Only what the caller may see: other services are of no concern to a scoped one.
void leave_readable(const Call &call, ChangeResult *change) {
  if (call.scope.is_everything() || !change->plan) return;
  const auto is_hidden = [&](const ServiceForecast &each) { return !call.scope.has_service(each.service); };
  std::erase_if(change->plan->at_once.services, is_hidden);
  if (change->plan->once_up) std::erase_if(change->plan->once_up->services, is_hidden);
  if (change->outcome == ChangeResult::Outcome::kTooMuch)
    change->message = "it would move more than max_moved allows";
  if (change->outcome == ChangeResult::Outcome::kPlanned) change->message = "a dry run: nothing has changed";
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
  ChangeResult result = change(key);
  leave_readable(call, &result);
  Response response = change_response(result);
  response.change->before = std::move(before);
  response.change->after = call.control.backend_summary(key);
  return response;
}

Result<bool> parse_flag(const Call &call, const std::string &name) {
  const std::string text = call.parameter(name).value_or("false");
  if (text == "true" || text == "false") return text == "true";
  return Error{fmt::format("query parameter {}: \"{}\" is neither true nor false", name, text)};
}

// Who asks, and the query's "dry_run", "force", "message" and "confirm".
Result<Terms> parse_terms(const Call &call) {
  const Caller &caller = call.request.caller;
  Terms terms{
      .author = caller.identity, .origin = caller.from, .message = call.parameter("message").value_or("")};
  if (terms.message.size() > kMaxMessageBytes)
    return Error{fmt::format("query parameter message: has {} bytes; at most {} are allowed",
                             terms.message.size(), kMaxMessageBytes)};
  if (std::ranges::any_of(terms.message,
                          [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }))
    return Error{"query parameter message: has characters that are no text, such as a line's end"};
  const Result<bool> dry_run = parse_flag(call, "dry_run");
  if (!dry_run.ok()) return dry_run.error();
  terms.dry_run = dry_run.value();
  const Result<bool> force = parse_flag(call, "force");
  if (!force.ok()) return force.error();
  terms.force = force.value();
  const std::optional<std::string> confirm = call.parameter("confirm");
  if (!confirm) return terms;
  const auto seconds = parse_number(*confirm, kMaxConfirmS);
  if (!seconds || *seconds == 0)
    return Error{fmt::format("query parameter confirm: \"{}\" is no number of seconds from 1 to {}", *confirm,
                             kMaxConfirmS)};
  terms.confirm_within = std::chrono::seconds(*seconds);
  return terms;
}

// A change by the query's terms.
template <typename Change>
Response change_by_terms(const Call &call, Change change) {
  const Result<Terms> terms = parse_terms(call);
  if (!terms.ok()) return problem(400, terms.error().message);
  const std::optional<std::string> wanted = call.parameter("if_revision");
  const auto revision = wanted ? parse_number(*wanted, UINT32_MAX) : std::nullopt;
  if (wanted && !revision)
    return problem(400,
                   fmt::format("query parameter if_revision: \"{}\" is no number of a revision", *wanted));
  if (revision && *revision != call.control.newest_revision()) {
    return problem(
        412,
        fmt::format("revision {} is not the last one any more: {} is; sluicectl diff {} {} shows what "
                    "has changed",
                    *revision, call.control.newest_revision(), *revision, call.control.newest_revision()));
  }
  return change(terms.value());
}

template <typename Change>
Response change_backend_by_terms(const Call &call, Change change) {
  return change_by_terms(call, [&](const Terms &terms) {
    return change_backend(call, [&](const model::BackendKey &key) { return change(key, terms); });
  });
}

// What the audit log says of a change of the configuration: what differs.
Response configuration_response(ChangeResult change) {
  Response response = change_response(change);
  response.change->after = std::move(change.changes);
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
  return change_backend_by_terms(call, [&](const model::BackendKey &key, const Terms &terms) {
    return call.control.drain(key, deadline.value(), terms);
  });
}

Response post_undrain(const Call &call) {
  return change_backend_by_terms(call, [&](const model::BackendKey &key, const Terms &terms) {
    return call.control.undrain(key, terms);
  });
}

Response post_maintenance(const Call &call) {
  const auto deadline = parse_deadline(call);
  if (!deadline.ok()) return problem(400, deadline.error().message);
  return change_backend_by_terms(call, [&](const model::BackendKey &key, const Terms &terms) {
    return call.control.maintain(key, deadline.value(), terms);
  });
}

Response delete_maintenance(const Call &call) {
  return change_backend_by_terms(call, [&](const model::BackendKey &key, const Terms &terms) {
    return call.control.end_maintenance(key, terms);
  });
}

// {"weight": 50}; null gives it back to the configuration (RFC 7396).
Response patch_backend(const Call &call) {
  const json body = json::parse(call.request.body, nullptr, false);
  if (!body.is_object()) return problem(400, "the body is no JSON object, such as {\"weight\": 50}");
  for (const auto &[name, value] : body.items()) {
    if (name != "weight")
      return problem(400, fmt::format("\"{}\" cannot be changed here; weight can", without_tokens(name)));
  }
  if (!body.contains("weight")) return problem(400, "the body has no \"weight\"");
  const json &weight = body.at("weight");
  std::optional<uint16_t> wanted;
  if (!weight.is_null()) {
    if (!weight.is_number_unsigned() || weight.get<uint64_t>() > kMaxWeight)
      return problem(400, fmt::format("weight: {} is no whole number from 0 to {}, nor null", weight.dump(),
                                      int{kMaxWeight}));
    wanted = weight.get<uint16_t>();
  }
  return change_backend_by_terms(call, [&](const model::BackendKey &key, const Terms &terms) {
    return call.control.set_weight(key, wanted, terms);
  });
}

Response put_configuration(const Call &call) {
  return change_by_terms(call, [&](Terms terms) {
    terms.document_name = call.parameter("file").value_or(terms.document_name);
    return configuration_response(call.control.apply(call.request.body, terms));
  });
}

Response post_rollback(const Call &call) {
  const auto revision = parse_number(call.names[0], UINT32_MAX);
  if (!revision) return problem(400, fmt::format("\"{}\" is no number of a revision", call.names[0]));
  return change_by_terms(call, [&](const Terms &terms) {
    return configuration_response(call.control.roll_back(*revision, terms));
  });
}

Response post_confirm(const Call &call) {
  const auto revision = parse_number(call.names[0], UINT32_MAX);
  if (!revision) return problem(400, fmt::format("\"{}\" is no number of a revision", call.names[0]));
  return change_by_terms(
      call, [&](const Terms &terms) { return change_response(call.control.confirm(*revision, terms)); });
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
  return change_by_terms(call, [&](const Terms &terms) {
    Response response = configuration_response(call.control.reload(terms));
    if (response.change->outcome == "unchanged") response.change->outcome = "applied";
    return response;
  });
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
