// The configuration that is wanted, and the changes that led to it.
#include <spdlog/fmt/fmt.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/render.h"
#include "controlplane/config/document_changes.h"

namespace sluice::api {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxListedRevisions = 1000;
constexpr uint64_t kListedRevisions = 100;
constexpr size_t kMaxComparedBytes = 1u << 20;  // read on the control loop, by every viewer

Result<uint64_t> number_of(const std::string &text, const std::string &what) {
  const auto number = parse_number(text, UINT32_MAX);
  if (number && *number > 0) return *number;
  return Error{fmt::format("{}: \"{}\" is no number of a revision", what, text)};
}

Response no_revision(uint64_t number) {
  return problem(404,
                 fmt::format("there is no revision {}, or no longer; GET /v1/revisions lists them", number));
}

}  // namespace

Response get_configuration(const Call &call) {
  return json_response(200,
                       {{"revision", call.control.newest_revision()}, {"document", call.control.document()}});
}

Response get_revisions(const Call &call) {
  uint64_t limit = kListedRevisions;
  if (const auto text = call.parameter("limit")) {
    const auto number = parse_number(*text, kMaxListedRevisions);
    if (!number || *number == 0)
      return problem(400, fmt::format("query parameter limit: \"{}\" is no number from 1 to {}", *text,
                                      kMaxListedRevisions));
    limit = *number;
  }
  uint64_t before = 0;
  if (const auto cursor = call.parameter("cursor")) {
    const Result<uint64_t> number = number_of(*cursor, "query parameter cursor");
    if (!number.ok()) return problem(400, number.error().message);
    before = number.value();
  }
  const Result<std::vector<Revision>> found = call.control.revisions(before, limit + 1);
  if (!found.ok()) return problem(500, found.error().message);
  json list = json::array();
  for (const Revision &revision : found.value()) {
    if (list.size() == limit) break;
    json row = to_json(revision);
    row["changes"] = revision.changes.size();  // what they are, each by itself
    list.push_back(std::move(row));
  }
  json body = {{"revisions", list}};
  if (found.value().size() > limit) body["next_cursor"] = std::to_string(found.value()[limit - 1].number);
  return json_response(200, body);
}

// With "against", what differs from the configuration after that other revision.
Response get_revision(const Call &call) {
  const Result<uint64_t> number = number_of(call.names[0], "path");
  if (!number.ok()) return problem(400, number.error().message);
  const Result<std::optional<Revision>> found = call.control.revision(number.value());
  if (!found.ok()) return problem(500, found.error().message);
  if (!found.value()) return no_revision(number.value());
  json body = to_json(*found.value());
  const auto against = call.parameter("against");
  if (!against) return json_response(200, body);
  const Result<uint64_t> other = number_of(*against, "query parameter against");
  if (!other.ok()) return problem(400, other.error().message);
  const Result<std::optional<std::string>> before = call.control.document_of(other.value());
  const Result<std::optional<std::string>> after = call.control.document_of(number.value());
  if (!before.ok()) return problem(500, before.error().message);
  if (!after.ok()) return problem(500, after.error().message);
  if (!before.value()) return no_revision(other.value());
  if (!after.value()) return no_revision(number.value());
  if (before.value()->size() + after.value()->size() > kMaxComparedBytes) {
    return problem(
        413,
        fmt::format("the configurations of revisions {} and {} are too large to be compared here; compare "
                    "their documents (GET /v1/revisions/{{number}}/document)",
                    other.value(), number.value()));
  }
  body["against"] = other.value();
  body["changes"] = document_changes(*before.value(), *after.value());
  return json_response(200, body);
}

Response get_revision_document(const Call &call) {
  const Result<uint64_t> number = number_of(call.names[0], "path");
  if (!number.ok()) return problem(400, number.error().message);
  const Result<std::optional<std::string>> found = call.control.document_of(number.value());
  if (!found.ok()) return problem(500, found.error().message);
  if (!found.value()) return no_revision(number.value());
  return json_response(200, {{"revision", number.value()}, {"document", *found.value()}});
}

}  // namespace sluice::api
