#include "tools/sluicectl/explain.h"

#include <algorithm>
#include <array>

#include "tools/sluicectl/capture.h"
#include "tools/sluicectl/table.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;

// All headers that are looked at are among so many bytes of a frame: what the API takes.
constexpr size_t kMostBytes = 1024;

struct AddressAndPort {
  std::string address;
  std::string l4_port;
};

Result<AddressAndPort> split_endpoint(const std::string &text) {
  const size_t colon = text.rfind(':');
  const bool brackets =
      text.starts_with('[') && colon != std::string::npos && colon > 1 && text[colon - 1] == ']';
  const bool plain = colon != std::string::npos && colon > 0 && text.find(':') == colon;
  if ((!brackets && !plain) || colon + 1 == text.size())
    return Error{"\"" + text + "\" is no ADDRESS:PORT (IPv6: [ADDRESS]:PORT)"};
  const std::string address = brackets ? text.substr(1, colon - 2) : text.substr(0, colon);
  return AddressAndPort{address, text.substr(colon + 1)};
}

std::string hex(const std::vector<uint8_t> &bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < std::min(bytes.size(), kMostBytes); i++) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

Result<std::vector<Parameter>> of_capture(const ExplainOptions &options) {
  const Result<CapturedFrame> frame = read_capture(options.capture, options.packet);
  if (!frame.ok()) return frame.error();
  return std::vector<Parameter>{{"frame", hex(frame.value().bytes)},
                                {"length", std::to_string(frame.value().length)}};
}

// As tools print frames. A longer one than is sent keeps its length.
std::vector<Parameter> of_hex(const ExplainOptions &options) {
  std::string digits = options.frame;
  std::erase_if(digits, [](char c) { return c == ' ' || c == ':' || c == '\n' || c == '\t'; });
  std::string length = options.length;
  if (length.empty() && digits.size() > 2 * kMostBytes) length = std::to_string(digits.size() / 2);
  return {{"frame", digits.substr(0, 2 * kMostBytes)}, {"length", length}};
}

Result<std::vector<Parameter>> of_connection(const ExplainOptions &options) {
  if (options.vip.empty()) return Error{"PROTOCOL, CLIENT and VIP are needed, or --pcap, or --frame"};
  const Result<AddressAndPort> client = split_endpoint(options.client);
  if (!client.ok()) return client.error();
  const Result<AddressAndPort> vip = split_endpoint(options.vip);
  if (!vip.ok()) return vip.error();
  return std::vector<Parameter>{{"protocol", options.protocol},
                                {"client", client.value().address},
                                {"client_port", client.value().l4_port},
                                {"vip", vip.value().address},
                                {"port", vip.value().l4_port},
                                {"flags", options.flags},
                                {"length", options.length}};
}

}  // namespace

Result<Command> explain_command(const ExplainOptions &options) {
  const std::array given = {!options.protocol.empty(), !options.frame.empty(), !options.capture.empty()};
  if (std::ranges::count(given, true) > 1)
    return Error{"PROTOCOL CLIENT VIP, --frame and --pcap are three ways to name a packet; give one"};
  if (!given[0] && !options.flags.empty()) return Error{"--flags and --syn are of PROTOCOL CLIENT VIP"};
  if (given[2] && !options.length.empty()) return Error{"--length: a capture says how long its packets were"};
  Result<std::vector<Parameter>> parameters = given[2]   ? of_capture(options)
                                              : given[1] ? Result(of_hex(options))
                                                         : of_connection(options);
  if (!parameters.ok()) return parameters.error();
  parameters.value().push_back({"worker", options.worker});
  return Command{.target = with_parameters("/v1/explain", parameters.value()),
                 .present = present_explanation};
}

std::string present_explanation(const json &body) {
  std::string text = body.at("verdict").get<std::string>();
  if (body.at("backend").is_string()) text += ", backend " + body.at("backend").get<std::string>();
  if (body.at("service").is_string()) text += ", service " + body.at("service").get<std::string>();
  text += "  (" + body.at("engine").get<std::string>() + ", worker " + body.at("worker").dump() + " of " +
          body.at("workers").dump() + ", snapshot " + body.at("snapshot").dump() + ")\n\n";
  Table table({{"STAGE"}, {"FINDING"}});
  for (const json &stage : body.at("stages"))
    table.add({stage.at("stage").get<std::string>(), stage.at("finding").get<std::string>()});
  return text + table.text();
}

}  // namespace sluice::ctl
