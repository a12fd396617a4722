// Whether an MQTT server accepts a client.
#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/mqtt_packet.h"
#include "controlplane/health/probes/stream.h"
#include "dataplane/abi/result.h"

namespace sluice {

namespace {

// The first line of the file. Read for each check, so that a new password counts at once.
Result<std::string> read_password(const std::string &file) {
  std::string password;
  if (file.empty()) return password;
  errno = 0;
  std::ifstream stream(file);
  if (!stream.is_open()) {
    return Error{
        fmt::format("cannot read password_file {}: {}", file, std::generic_category().message(errno))};
  }
  if (!std::getline(stream, password)) return Error{"password_file " + file + " is empty"};
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
