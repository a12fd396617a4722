#include "controlplane/health/probes/grpc_health.h"

#include <array>

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

constexpr size_t kFrameHeader = 5;             // compressed or not, and 4 bytes of length
constexpr uint8_t kServiceField = 1 << 3 | 2;  // number 1, length-delimited
constexpr size_t kMaxVarintBytes = 10;

// A number of seven bits a byte, the lowest first, off the front.
std::optional<uint64_t> take_varint(std::string_view *bytes) {
  uint64_t number = 0;
  for (size_t i = 0; i < std::min(bytes->size(), kMaxVarintBytes); ++i) {
    const auto byte = static_cast<uint8_t>((*bytes)[i]);
    if (i == kMaxVarintBytes - 1 && byte > 1) return std::nullopt;
    number |= uint64_t{byte & 0x7fu} << (7 * i);
    if ((byte & 0x80) != 0) continue;
    bytes->remove_prefix(i + 1);
    return number;
  }
  return std::nullopt;
}

bool skip(std::string_view *bytes, uint64_t count) {
  if (count > bytes->size()) return false;
  bytes->remove_prefix(count);
  return true;
}

// Over the value of a field that is not known, by its wire type.
bool skip_field(std::string_view *bytes, uint64_t wire_type) {
  switch (wire_type) {
    case 0:
      return take_varint(bytes).has_value();
    case 1:
      return skip(bytes, 8);
    case 2: {
      const auto length = take_varint(bytes);
      return length && skip(bytes, *length);
    }
    case 5:
      return skip(bytes, 4);
    default:
      return false;
  }
}

}  // namespace

std::string grpc_health_request(std::string_view service) {
  std::string message;
  if (!service.empty()) {
    message.push_back(static_cast<char>(kServiceField));
    if (service.size() >= 0x80) {
      message.push_back(static_cast<char>((service.size() & 0x7f) | 0x80));
      message.push_back(static_cast<char>(service.size() >> 7));
    } else {
      message.push_back(static_cast<char>(service.size()));
    }
    message.append(service);
  }
  std::string body(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    body.push_back(static_cast<char>(message.size() >> shift & 0xff));
  return body + message;
}

std::optional<GrpcServingStatus> parse_grpc_health_response(std::string_view body) {
  if (body.size() < kFrameHeader || body[0] != 0) return std::nullopt;
  uint32_t length = 0;
  for (size_t i = 1; i < kFrameHeader; ++i) length = length << 8 | static_cast<uint8_t>(body[i]);
  std::string_view message = body.substr(kFrameHeader);
  if (message.size() != length) return std::nullopt;
  auto status = GrpcServingStatus::kUnknown;  // what is not there is 0
  while (!message.empty()) {
    const auto key = take_varint(&message);
    if (!key) return std::nullopt;
    constexpr uint64_t kStatusField = 1 << 3;  // number 1, varint
    if (*key != kStatusField) {
      if (!skip_field(&message, *key & 7)) return std::nullopt;
      continue;
    }
    const auto value = take_varint(&message);
    if (!value || *value > UINT32_MAX) return std::nullopt;
    status = static_cast<GrpcServingStatus>(*value);
  }
  return status;
}

std::string grpc_serving_status_text(GrpcServingStatus status) {
  switch (status) {
    case GrpcServingStatus::kUnknown:
      return "UNKNOWN";
    case GrpcServingStatus::kServing:
      return "SERVING";
    case GrpcServingStatus::kNotServing:
      return "NOT_SERVING";
    case GrpcServingStatus::kServiceUnknown:
      return "SERVICE_UNKNOWN";
  }
  return fmt::format("serving status {}", static_cast<uint32_t>(status));
}

std::string grpc_status_text(std::string_view number) {
  constexpr std::array<std::string_view, 17> kNames = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (number == std::to_string(i)) return std::string(kNames[i]);
  }
  return "status " + std::string(number.substr(0, 16));
}

}  // namespace sluice
