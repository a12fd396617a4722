#include "controlplane/discovery/messages/entry.h"

#include <charconv>
#include <optional>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

namespace {

constexpr uint32_t kMaxPriority = 65534;  // as the configuration's

Result<uint16_t> parse_number(std::string_view key, std::string_view text, uint32_t min, uint32_t max) {
  uint32_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault == std::errc{} && end == text.data() + text.size() && number >= min && number <= max)
    return static_cast<uint16_t>(number);
  return Error{fmt::format("{} {} is no whole number from {} to {}", key, in_quotes(text), min, max)};
}

Result<Address> parse_destination(std::string_view text) {
  const auto address = parse_address(text);
  if (!address) return Error{fmt::format("address {} is no IPv4 or IPv6 address", in_quotes(text))};
  if (const char *fault = address_fault(*address))
    return Error{fmt::format("address {} {}", in_quotes(text), fault)};
  return *address;
}

// Puts the number of `key`, if there is one, where it belongs.
Status read_number(const EntryFields &fields, const std::string &key, uint32_t min, uint32_t max,
                   uint16_t *place) {
  const auto found = fields.find(key);
  if (found == fields.end()) return Done{};
  const Result<uint16_t> number = parse_number(key, found->second, min, max);
  if (!number.ok()) return number.error();
  *place = number.value();
  return Done{};
}

Status read_drain(const EntryFields &fields, bool *drain) {
  const auto found = fields.find("drain");
  if (found == fields.end()) return Done{};
  if (found->second != "true" && found->second != "false")
    return Error{fmt::format("drain {} is not true or false", in_quotes(found->second))};
  *drain = found->second == "true";
  return Done{};
}

Status check_keys(const EntryFields &fields) {
  constexpr std::string_view kKnown = " name address weight priority check_port drain ";
  for (const auto &[key, value] : fields) {
    if (key.empty() || key.find(' ') != key.npos || kKnown.find(" " + key + " ") == kKnown.npos) {
      return Error{
          fmt::format("key {} is not known; allowed: name, address, weight, priority, check_port, drain",
                      in_quotes(key))};
    }
  }
  return Done{};
}

}  // namespace

Result<FoundBackend> make_entry(const EntryFields &fields, std::string_view name, uint16_t weight) {
  if (const Status checked = check_keys(fields); !checked.ok()) return checked.error();
  FoundBackend backend;
  backend.weight = weight;
  const auto address_text = fields.find("address");
  if (address_text == fields.end()) return Error{"address is missing"};
  const Result<Address> address = parse_destination(address_text->second);
  if (!address.ok()) return address.error();
  backend.address = address.value();
  const auto own_name = fields.find("name");
  backend.name = own_name != fields.end() ? own_name->second : std::string(name);
  if (own_name == fields.end() && name.empty()) backend.name = address_name(backend.address);
  if (!is_name(backend.name)) {
    return Error{fmt::format("name {} is no name (1 to 63 letters, digits, \".\", \"_\" or \"-\")",
                             in_quotes(backend.name))};
  }
  for (const Status &status : {read_number(fields, "weight", 0, kMaxWeight, &backend.weight),
                               read_number(fields, "priority", 0, kMaxPriority, &backend.priority),
                               read_number(fields, "check_port", 1, 65535, &backend.check_port),
                               read_drain(fields, &backend.drain)}) {
    if (!status.ok()) return status.error();
  }
  if (backend.weight == 0) backend.drain = true;
  return backend;
}

Result<EntryFields> json_fields(std::string_view text) {
  // A map of maps is no backend: nothing nested is ever built.
  const auto flat = [](int depth, nlohmann::json::parse_event_t /*event*/, nlohmann::json & /*value*/) {
    return depth <= 1;
  };
  if (text.size() > kMaxEntryBytes) return Error{fmt::format("has over {} bytes", kMaxEntryBytes)};
  const auto document = nlohmann::json::parse(text, flat, false);
  if (!document.is_object()) return Error{fmt::format("{} is no JSON object", in_quotes(text))};
  EntryFields fields;
  for (const auto &[key, value] : document.items()) {
    if (value.is_structured() || value.is_null())
      return Error{fmt::format("{} is no single value", in_quotes(key))};
    fields[key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return fields;
}

}  // namespace sluice
