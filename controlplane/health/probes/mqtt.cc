// Whether an MQTT server accepts a client.
#include <string>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/mqtt_packet.h"
#include "controlplane/health/probes/small_file.h"
#include "controlplane/health/probes/stream.h"
#include "dataplane/abi/result.h"

namespace sluice {

namespace {

// The first line of the file. Read for each check, so that a new password counts at once.
Result<std::string> read_password(const std::string &file) {
  if (file.empty()) return std::string();
  constexpr size_t kMaxFileKib = 64;
  Result<std::string> text = read_small_file(file, kMaxFileKib);
  if (!text.ok()) return Error{fmt::format("cannot read password_file {}: {}", file, text.error().message)};
  if (text.value().empty()) return Error{"password_file " + file + " is empty"};
  std::string password = text.value().substr(0, text.value().find('\n'));
  if (password.ends_with('\r')) password.pop_back();
  if (password.size() > kMaxMqttTextBytes)
    return Error{fmt::format("the password in password_file {} is over {} bytes", file, kMaxMqttTextBytes)};
  return password;
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::MqttCheck &check) {
  const auto password = read_password(check.password_file);
  if (!password.ok()) co_return not_carried_out(password.error().message);
  ProbeStream stream(context, spec);
  if (const Ended ended = co_await stream.connect()) co_return *ended;
  const std::string request = mqtt_connect(check.client_id, check.username, password.value());
  if (const Ended ended = co_await stream.write(request)) co_return *ended;
  std::string answer;
  while (answer.size() < kMqttConnackBytes) {
    if (const Ended ended = co_await stream.read_some(&answer, kMqttConnackBytes)) co_return *ended;
  }
  const auto code = parse_mqtt_connack(answer);
  if (!code) co_return unhealthy(fmt::format("answered {}, which is no CONNACK", shown(answer)));
  if (*code != 0) co_return unhealthy("MQTT connection refused: " + mqtt_refusal_text(*code));
  const std::string goodbye = mqtt_disconnect();
  co_await stream.write(goodbye);
  co_return healthy("MQTT connection accepted");
}

}  // namespace sluice
