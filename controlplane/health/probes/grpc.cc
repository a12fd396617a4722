// grpc.health.v1.Health/Check.
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/grpc_health.h"
#include "controlplane/health/probes/http2_request.h"

namespace sluice {

namespace {

CheckResult judge_answer(const Http2Request &request, const model::GrpcCheck &check) {
  if (request.status() != 200)
    return unhealthy(fmt::format("HTTP status {}, expected 200", request.status()));
  const std::string *status = request.header("grpc-status");
  if (status == nullptr) return unhealthy("the answer is not gRPC");
  if (*status != "0") {
    const std::string *message = request.header("grpc-message");
    return unhealthy(fmt::format("gRPC {}{}{}", grpc_status_text(*status), message == nullptr ? "" : ": ",
                                 message == nullptr ? "" : *message));
  }
  const auto serving = parse_grpc_health_response(request.body());
  if (!serving) return unhealthy("the answer is no HealthCheckResponse");
  const std::string text = fmt::format("{}{}{}", check.service, check.service.empty() ? "" : ": ",
                                       grpc_serving_status_text(*serving));
  return *serving == GrpcServingStatus::kServing ? healthy(text) : unhealthy(text);
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::GrpcCheck &check) {
  Http2Request request(context, spec,
                       {.tls = check.tls ? &*check.tls : nullptr,
                        .method = "POST",
                        .path = "/grpc.health.v1.Health/Check",
                        .host = "",
                        .headers = {{"Content-Type", "application/grpc"}, {"TE", "trailers"}}});
  request.set_body(grpc_health_request(check.service));
  if (const Ended ended = co_await request.perform()) co_return *ended;
  co_return judge_answer(request, check);
}

}  // namespace sluice
