// The two packets of MQTT 3.1.1 that a check needs, as bytes (OASIS MQTT 3.1.1, sections 3.1 and 3.2).
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_MQTT_PACKET_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_MQTT_PACKET_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// A CONNECT with a clean session. Texts have at most 65,535 bytes; empty ones are left out, but the client's
/// identifier, which the server makes up then.
std::string mqtt_connect(std::string_view client_id, std::string_view username, std::string_view password);

/// Sent before the connection is closed, so that the server takes it for no failure (section 3.14).
std::string mqtt_disconnect();

inline constexpr size_t kMaxMqttTextBytes = 65535;  // of a user's name, a password
inline constexpr size_t kMqttConnackBytes = 4;

/// The return code in a CONNACK: 0 accepts. Nothing: it is no CONNACK.
std::optional<uint8_t> parse_mqtt_connack(std::string_view bytes);

/// "not authorized" (table 3.1).
std::string mqtt_refusal_text(uint8_t return_code);

}  // namespace sluice

#endif
