#include "controlplane/discovery/messages/consul_message.h"

#include <charconv>
#include <string>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"

namespace sluice {

namespace {

using nlohmann::json;

constexpr uint32_t kMaxConsulWeight = 65535;

std::string text_at(const json &document, const char *pointer) {
  const json::json_pointer path(pointer);
  if (!document.contains(path) || !document.at(path).is_string()) return "";
  return document.at(path).get<std::string>();
}

uint64_t number_at(const json &document, const char *pointer, uint64_t missing) {
  const json::json_pointer path(pointer);
  if (!document.contains(path) || !document.at(path).is_number_unsigned()) return missing;
  return document.at(path).get<uint64_t>();
}

Result<FoundBackend> instance(const json &value) {
  std::string text = text_at(value, "/Service/Address");
  if (text.empty()) text = text_at(value, "/Node/Address");
  const auto address = parse_address(text);
  if (!address) return Error{fmt::format("address {} is no IPv4 or IPv6 address", in_quotes(text))};
  if (const char *fault = address_fault(*address))
    return Error{fmt::format("address {} {}", in_quotes(text), fault)};
  FoundBackend backend;
  backend.name = address_name(*address);
  backend.address = *address;
  const uint64_t l4_port = number_at(value, "/Service/Port", 0);
  if (l4_port <= 65535) backend.check_port = static_cast<uint16_t>(l4_port);
  return backend;
}

}  // namespace

Result<Answer> parse_consul_instances(std::string_view body, uint16_t weight) {
  const json document = json::parse(body, nullptr, false);
  if (!document.is_array()) return Error{"the answer is no list of Consul's: " + in_quotes(body)};
  Answer answer;
  std::vector<uint32_t> weights;
  for (const json &each : document) {
    const Result<FoundBackend> backend = instance(each);
    if (!backend.ok()) {
      answer.skipped.add(fmt::format("node {}, service {}: {}", in_quotes(text_at(each, "/Node/Node")),
                                     in_quotes(text_at(each, "/Service/ID")), backend.error().message));
      continue;
    }
    answer.backends.push_back(backend.value());
    const uint64_t own = number_at(each, "/Service/Weights/Passing", 1);
    weights.push_back(static_cast<uint32_t>(std::min<uint64_t>(own, kMaxConsulWeight)));
  }
  scale_weights(&answer.backends, weights, weight);
  return answer;
}

uint64_t next_consul_index(uint64_t last, std::string_view header) {
  uint64_t index = 0;
  const auto [end, fault] = std::from_chars(header.data(), header.data() + header.size(), index);
  if (fault != std::errc{} || end != header.data() + header.size() || index < last) return 0;
  return index;
}

}  // namespace sluice
