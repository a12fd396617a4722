// One HTTP request.
#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/http1_exchange.h"
#include "controlplane/health/probes/http2_request.h"

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

CheckResult judge_answer(long status, const std::string &body, const model::HttpCheck &check) {
  const bool expected = std::ranges::any_of(
      check.statuses, [status](const model::NumberRange &range) { return range.contains(status); });
  if (!expected) {
    return unhealthy(fmt::format("HTTP status {}, expected {}", status, statuses_text(check.statuses)));
  }
  if (body.find(check.body) == std::string::npos) {
    return unhealthy(fmt::format("HTTP status {}, {}", status, missing_text(check.body, body)));
  }
  return healthy(fmt::format("HTTP status {}", status));
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::HttpCheck &check) {
  if (check.version == model::HttpVersion::kHttp1) {
    Http1Exchange exchange(context, spec, check);
    if (const Ended ended = co_await exchange.perform()) co_return *ended;
    co_return judge_answer(exchange.status(), exchange.body(), check);
  }
  Http2Request request(context, spec,
                       {.tls = check.tls ? &*check.tls : nullptr,
                        .method = check.method,
                        .path = check.path,
                        .host = check.host,
                        .headers = check.headers});
  if (const Ended ended = co_await request.perform()) co_return *ended;
  co_return judge_answer(request.status(), request.body(), check);
}

}  // namespace sluice
