// One HTTP request.
#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/http_request.h"

namespace sluice {

namespace {

std::string statuses_text(const std::vector<model::NumberRange> &statuses) {
  std::string text;
  for (const model::NumberRange &range : statuses) {
    if (!text.empty()) text += ", ";
    text += range.first == range.last ? std::to_string(range.first)
                                      : fmt::format("{}-{}", range.first, range.last);
  }
  return text;
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::HttpCheck &check) {
  HttpRequest request(context, spec,
                      {.tls = check.tls ? &*check.tls : nullptr,
                       .version = check.version,
                       .method = check.method,
                       .path = check.path,
                       .host = check.host,
                       .headers = check.headers});
  if (const Ended ended = co_await request.perform()) co_return *ended;
  const long status = request.status();
  const bool expected = std::ranges::any_of(
      check.statuses, [status](const model::NumberRange &range) { return range.contains(status); });
  if (!expected) {
    co_return unhealthy(fmt::format("HTTP status {}, expected {}", status, statuses_text(check.statuses)));
  }
  if (request.body().find(check.body) == std::string::npos) {
    co_return unhealthy(fmt::format("HTTP status {}, {}", status, missing_text(check.body, request.body())));
  }
  co_return healthy(fmt::format("HTTP status {}", status));
}

}  // namespace sluice
