#include "controlplane/config/field_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <tuple>

namespace sluice {
namespace {

using std::chrono::milliseconds;

constexpr size_t kShownValueLength = 60;
constexpr size_t kMaxNameLength = 63;
constexpr std::string_view kHexPrefix = "hex:";
constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";  // RFC 9110 section 5.6.2

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Decimal digits and nothing else.
std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string format_duration(milliseconds duration) {
  const auto count = duration.count();
  if (count % 1000 != 0) return std::to_string(count) + "ms";
  if (count % 3600'000 == 0) return std::to_string(count / 3600'000) + "h";
  return std::to_string(count / 1000) + "s";
}

const char *kind_text(YamlKind kind) {
  switch (kind) {
    case YamlKind::kNull:
      return "nothing";
    case YamlKind::kScalar:
      return "a single value";
    case YamlKind::kList:
      return "a list";
    case YamlKind::kMap:
      return "a map";
    case YamlKind::kRefused:
      return "not allowed";
  }
  return "";
}

std::optional<uint8_t> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<uint8_t>(c - 'A' + 10);
  return std::nullopt;
}

// Pairs of hexadecimal digits as bytes.
std::optional<std::string> parse_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) {
    const auto high = hex_digit(digits[i]);
    const auto low = hex_digit(digits[i + 1]);
    if (!high || !low) return std::nullopt;
    bytes += static_cast<char>(*high << 4 | *low);
  }
  return bytes;
}

std::string shown_value(const YamlNode &node) {
  return node.kind == YamlKind::kScalar ? node.text : std::string();
}

}  // namespace

std::optional<milliseconds> parse_duration(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto count = parse_number(text.substr(0, digits));
  const std::string_view unit = text.substr(digits);
  uint64_t unit_ms = 0;
  if (unit == "ms") unit_ms = 1;
  if (unit == "s") unit_ms = 1000;
  if (unit == "m") unit_ms = 60 * 1000;
  if (unit == "h") unit_ms = 3600 * 1000;
  constexpr uint64_t kMaxCount = 1'000'000'000;  // the product with the largest unit fits
  if (!count || *count > kMaxCount || unit_ms == 0) return std::nullopt;
  return milliseconds(*count * unit_ms);
}

bool is_name(std::string_view text) {
  const auto is_name_character = [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= kMaxNameLength && is_letter_or_digit(text.front()) &&
         std::ranges::all_of(text, is_name_character);
}

const char *address_fault(const Address &address) {
  const auto *bytes = reinterpret_cast<const uint8_t *>(&address);
  if (address_is_ipv4(&address)) {
    if (bytes[12] == 0) return "is in 0.0.0.0/8, which names no host (RFC 1122)";
    if (bytes[12] >= 224 && bytes[12] < 240) return "is a multicast address";
    if (bytes[12] >= 240) return "is a reserved or broadcast address";
    return nullptr;
  }
  const bool begins_with_zeros = (address.word[0] | address.word[1] | address.word[2]) == 0;
  if (begins_with_zeros && address.word[3] == 0) return "is the unspecified address";
  if (bytes[0] == 0xff) return "is a multicast address";
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80)
    return "is a link-local address, which needs an interface";
  return nullptr;
}

std::string in_quotes(std::string_view value) {
  std::string shown = "\"";
  for (const char c : value.substr(0, kShownValueLength)) {
    shown += c >= ' ' && c != 0x7f ? c : '?';
  }
  return shown + (value.size() > kShownValueLength ? "...\"" : "\"");
}

void ErrorList::add(TextPlace place, std::string field, std::string_view value, std::string message) {
  if (errors_.size() == kMaxErrors) {
    ++left_out_;
    return;
  }
  errors_.push_back({file_, place.line, place.column, std::move(field),
                     std::string(value.substr(0, kShownValueLength)), std::move(message)});
}

std::vector<ConfigError> ErrorList::take() {
  std::ranges::stable_sort(errors_, {},
                           [](const ConfigError &error) { return std::tie(error.line, error.column); });
  if (left_out_ > 0) {
    errors_.push_back({file_, 0, 0, "", "", std::to_string(left_out_) + " more errors are not shown"});
  }
  return std::move(errors_);
}

std::string Field::path() const {
  if (parent == nullptr) return "";
  const std::string above = parent->path();
  if (key.empty()) return above + "[" + std::to_string(index) + "]";
  return above.empty() ? std::string(key) : above + "." + std::string(key);
}

void FieldReader::error(const Field &field, std::string message) {
  if (field.node->kind == YamlKind::kRefused) return;  // there is an error already
  errors_.add(field.node->place, field.path(), shown_value(*field.node), std::move(message));
}

bool FieldReader::is_map(const Field &field, std::span<const std::string_view> keys) {
  if (field.node->kind != YamlKind::kMap) {
    error(field, std::string("is ") + kind_text(field.node->kind) + "; a map (\"key: value\") is needed");
    return false;
  }
  std::vector<const YamlEntry *> seen(keys.size(), nullptr);
  for (const YamlEntry &entry : field.node->entries) {
    if (entry.key_is_refused) continue;
    const Field value{&entry.value, &field, entry.key.empty() ? "\"\"" : std::string_view(entry.key), 0};
    const auto known = std::ranges::find(keys, entry.key);
    if (known == keys.end()) {
      std::string allowed;
      for (const std::string_view key : keys) allowed += (allowed.empty() ? "" : ", ") + std::string(key);
      errors_.add(entry.key_place, field.path(), entry.key,
                  "key " + in_quotes(entry.key) + " is not known; allowed: " + allowed);
      continue;
    }
    const YamlEntry *&first = seen[static_cast<size_t>(known - keys.begin())];
    if (first != nullptr) {
      errors_.add(entry.key_place, value.path(), entry.key,
                  "key " + in_quotes(entry.key) + " is there twice, first in line " +
                      std::to_string(first->key_place.line) + "; remove one");
      continue;
    }
    first = &entry;
  }
  return true;
}

bool FieldReader::is_list(const Field &field) {
  if (field.node->kind == YamlKind::kList) return true;
  error(field, std::string("is ") + kind_text(field.node->kind) + "; a list is needed ([] for an empty one)");
  return false;
}

std::optional<Field> FieldReader::find(const Field &map, std::string_view key) {
  const auto found = std::ranges::find(map.node->entries, key, &YamlEntry::key);
  if (found == map.node->entries.end()) return std::nullopt;
  return Field{&found->value, &map, found->key, 0};
}

std::optional<Field> FieldReader::require(const Field &map, std::string_view key) {
  const auto found = find(map, key);
  if (!found) {
    errors_.add(map.node->place, map.path(), "", "key " + in_quotes(key) + " is missing; add it");
  }
  return found;
}

std::optional<std::string_view> FieldReader::scalar(const Field &field) {
  if (field.node->kind == YamlKind::kScalar) return field.node->text;
  error(field, std::string("is ") + kind_text(field.node->kind) + "; a single value is needed");
  return std::nullopt;
}

std::optional<std::string> FieldReader::name(const Field &field) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  if (is_name(*text)) return std::string(*text);
  error(field, in_quotes(*text) + " is no name; allowed: 1 to " + std::to_string(kMaxNameLength) +
                   " letters, digits, \".\", \"_\" or \"-\", the first a letter or a digit");
  return std::nullopt;
}

std::optional<std::string> FieldReader::word(const Field &field, size_t max_length) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto is_visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (!text->empty() && text->size() <= max_length && std::ranges::all_of(*text, is_visible)) {
    return std::string(*text);
  }
  error(field, in_quotes(*text) + " cannot be sent; allowed: 1 to " + std::to_string(max_length) +
                   " printable ASCII characters without spaces");
  return std::nullopt;
}

std::optional<std::string> FieldReader::bytes(const Field &field, size_t max_length) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const std::optional<std::string> bytes =
      text->starts_with(kHexPrefix) ? parse_hex(text->substr(kHexPrefix.size())) : std::string(*text);
  if (bytes && !bytes->empty() && bytes->size() <= max_length) return bytes;
  error(field, in_quotes(*text) + " cannot be sent; allowed: a text of 1 to " + std::to_string(max_length) +
                   " bytes, or " + in_quotes(kHexPrefix) + " and pairs of hexadecimal digits");
  return std::nullopt;
}

std::optional<std::pair<std::string, std::string>> FieldReader::header(const Field &field,
                                                                       size_t max_length) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const size_t colon = std::min(text->find(':'), text->size());
  const std::string_view name = text->substr(0, colon);
  std::string_view value = text->substr(std::min(colon + 1, text->size()));
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  const auto is_token = [](char c) {
    return is_letter_or_digit(c) || kTokenMarks.find(c) != std::string_view::npos;
  };
  const auto is_printable = [](char c) { return c >= ' ' && c < 0x7f; };
  if (colon < text->size() && !name.empty() && text->size() <= max_length &&
      std::ranges::all_of(name, is_token) && std::ranges::all_of(value, is_printable)) {
    return std::pair(std::string(name), std::string(value));
  }
  error(field, in_quotes(*text) + " is no header; allowed: \"Name: value\" in printable ASCII, up to " +
                   std::to_string(max_length) + " characters");
  return std::nullopt;
}

std::optional<uint32_t> FieldReader::number(const Field &field, uint32_t min, uint32_t max) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto value = parse_number(*text);
  if (value && *value >= min && *value <= max) return static_cast<uint32_t>(*value);
  error(field, in_quotes(*text) + (value ? " is out of range" : " is not a whole number") +
                   "; allowed: " + std::to_string(min) + " to " + std::to_string(max));
  return std::nullopt;
}

std::optional<uint8_t> FieldReader::percent(const Field &field) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto value = text->ends_with('%') ? parse_number(text->substr(0, text->size() - 1)) : std::nullopt;
  if (value && *value <= 100) return static_cast<uint8_t>(*value);
  error(field, in_quotes(*text) + " is no share; allowed: 0% to 100%");
  return std::nullopt;
}

std::optional<bool> FieldReader::boolean(const Field &field) {
  return choice<bool>(field, {{"true", true}, {"false", false}});
}

std::optional<milliseconds> FieldReader::duration(const Field &field, milliseconds min, milliseconds max) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto value = parse_duration(*text);
  if (value && *value >= min && *value <= max) return value;
  error(field, in_quotes(*text) +
                   (value ? " is out of range" : " is not a duration such as 500ms, 1s, 15m or 2h") +
                   "; allowed: " + format_duration(min) + " to " + format_duration(max));
  return std::nullopt;
}

std::optional<std::chrono::seconds> FieldReader::seconds(const Field &field, std::chrono::seconds min,
                                                         std::chrono::seconds max) {
  const auto value = duration(field, min, max);
  if (!value) return std::nullopt;
  if (value->count() % 1000 == 0) return std::chrono::duration_cast<std::chrono::seconds>(*value);
  error(field, in_quotes(field.node->text) + " is not a whole number of seconds; allowed: " +
                   format_duration(min) + " to " + format_duration(max));
  return std::nullopt;
}

std::optional<Address> FieldReader::address(const Field &field) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto value = parse_address(*text);
  if (!value) {
    error(field, in_quotes(*text) +
                     " is not an address; allowed: one IPv4 or IPv6 address without a prefix length "
                     "(IPv4 written as IPv4, not mapped into IPv6)");
    return std::nullopt;
  }
  if (const char *fault = address_fault(*value)) {
    error(field, in_quotes(*text) + " " + fault + "; allowed: unicast addresses");
    return std::nullopt;
  }
  return value;
}

std::optional<std::pair<uint16_t, uint16_t>> FieldReader::range(const Field &field, uint32_t min,
                                                                uint32_t max, const std::string &what) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const size_t dash = text->find('-');
  const auto first = parse_number(text->substr(0, dash));
  const auto last = dash == text->npos ? first : parse_number(text->substr(dash + 1));
  if (first && last && *first >= min && *last <= max && *first <= *last) {
    return std::pair{static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
  }
  error(field, in_quotes(*text) + " is not " + what + "; allowed: a number or a range FIRST-LAST from " +
                   std::to_string(min) + " to " + std::to_string(max));
  return std::nullopt;
}

std::optional<model::PortSpan> FieldReader::port_span(const Field &field) {
  const auto ports = range(field, 1, 65535, "a port or a range of ports");
  if (!ports) return std::nullopt;
  return model::PortSpan{ports->first, ports->second};
}

std::optional<FlowHashKey> FieldReader::flow_hash_key(const Field &field) {
  const auto text = scalar(field);
  if (!text) return std::nullopt;
  const auto bytes = text->size() == 2 * sizeof(FlowHashKey) ? parse_hex(*text) : std::nullopt;
  const bool is_zero = bytes && bytes->find_first_not_of('\0') == std::string::npos;
  // The key is a secret: messages tell its length only.
  if (!bytes || is_zero) {
    errors_.add(field.node->place, field.path(), "",
                std::string(bytes ? "is all zeros" : "is not 96 hexadecimal digits") + " (it has " +
                    std::to_string(text->size()) + " characters); make one with: openssl rand -hex 48");
    return std::nullopt;
  }
  FlowHashKey key{};
  std::memcpy(&key, bytes->data(), sizeof(key));
  return key;
}

}  // namespace sluice
