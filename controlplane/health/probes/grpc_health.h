// The messages of grpc.health.v1, as bytes (gRPC over HTTP/2: a flag and a length before each message;
// Protocol Buffers).
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_GRPC_HEALTH_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_GRPC_HEALTH_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// A HealthCheckRequest for `service`, of at most 255 bytes, as the body of a call.
std::string grpc_health_request(std::string_view service);

/// HealthCheckResponse.ServingStatus; others may come from newer servers.
enum class GrpcServingStatus : uint32_t { kUnknown = 0, kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

/// The status in the body of an answer; nothing: it is no HealthCheckResponse.
std::optional<GrpcServingStatus> parse_grpc_health_response(std::string_view body);

/// "NOT_SERVING".
std::string grpc_serving_status_text(GrpcServingStatus status);

/// "UNIMPLEMENTED" of "12": of the grpc-status header.
std::string grpc_status_text(std::string_view number);

}  // namespace sluice

#endif
