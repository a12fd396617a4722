#include "controlplane/health/probes/mqtt_packet.h"

#include <array>

namespace sluice {

namespace {

constexpr char kConnect = 0x10;
constexpr char kConnack = 0x20;
constexpr char kDisconnect = static_cast<char>(0xe0);
constexpr char kProtocolLevel = 4;
constexpr uint8_t kCleanSession = 0x02;
constexpr uint8_t kHasPassword = 0x40;
constexpr uint8_t kHasUsername = 0x80;
constexpr uint16_t kKeepAliveSeconds = 60;

void put_number(std::string *bytes, size_t number) {
  bytes->push_back(static_cast<char>(number >> 8 & 0xff));
  bytes->push_back(static_cast<char>(number & 0xff));
}

void put_text(std::string *bytes, std::string_view text) {
  put_number(bytes, text.size());
  bytes->append(text);
}

// Section 2.2.3: seven bits each, the lowest first.
void put_length(std::string *bytes, size_t length) {
  do {
    const size_t rest = length >> 7;
    bytes->push_back(static_cast<char>((length & 0x7f) | (rest > 0 ? 0x80 : 0)));
    length = rest;
  } while (length > 0);
}

}  // namespace

std::string mqtt_connect(std::string_view client_id, std::string_view username, std::string_view password) {
  std::string body;
  put_text(&body, "MQTT");
  body.push_back(kProtocolLevel);
  unsigned flags = kCleanSession;
  if (!username.empty()) flags |= kHasUsername;
  if (!username.empty() && !password.empty()) flags |= kHasPassword;
  body.push_back(static_cast<char>(flags));
  put_number(&body, kKeepAliveSeconds);
  put_text(&body, client_id);
  if ((flags & kHasUsername) != 0) put_text(&body, username);
  if ((flags & kHasPassword) != 0) put_text(&body, password);
  std::string packet(1, kConnect);
  put_length(&packet, body.size());
  return packet + body;
}

std::string mqtt_disconnect() { return {kDisconnect, '\0'}; }

std::optional<uint8_t> parse_mqtt_connack(std::string_view bytes) {
  constexpr char kRemainingLength = 2;
  if (bytes.size() < kMqttConnackBytes || bytes[0] != kConnack || bytes[1] != kRemainingLength)
    return std::nullopt;
  return static_cast<uint8_t>(bytes[3]);
}

std::string mqtt_refusal_text(uint8_t return_code) {
  constexpr std::array<const char *, 6> kTexts = {"",
                                                  "unacceptable protocol version",
                                                  "client identifier rejected",
                                                  "server unavailable",
                                                  "bad user name or password",
                                                  "not authorized"};
  return return_code < kTexts.size() ? kTexts[return_code] : "return code " + std::to_string(return_code);
}

}  // namespace sluice
