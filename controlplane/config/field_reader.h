// Typed values out of a YAML tree. Each reading either gives a value inside its limits or notes an
// error with the field's place and path; the caller reads on, so that every error is found.
#ifndef SLUICE_CONTROLPLANE_CONFIG_FIELD_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_FIELD_READER_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/config/config_loader.h"
#include "controlplane/config/yaml_tree.h"
#include "controlplane/model/desired_state.h"

namespace sluice {

/// The errors of one configuration.
class ErrorList {
 public:
  explicit ErrorList(std::string file) : file_(std::move(file)) {}

  void add(TextPlace place, std::string field, std::string_view value, std::string message);

  bool empty() const { return errors_.empty(); }

  /// In the order of the file. Past kMaxErrors there is one that counts the rest.
  std::vector<ConfigError> take();

  static constexpr size_t kMaxErrors = 10000;

 private:
  std::string file_;
  std::vector<ConfigError> errors_;
  size_t left_out_ = 0;
};

/// One value of the document and the way to it. The parent must outlive it.
struct Field {
  const YamlNode *node = nullptr;
  const Field *parent = nullptr;  // nullptr: the document
  std::string_view key;           // in a map; empty in a list
  size_t index = 0;               // in a list

  /// "services[0].ports[2]".
  std::string path() const;

  Field item(size_t item_index) const { return {&node->items[item_index], this, {}, item_index}; }
};

/// "500ms", "10s", "15m", "2h".
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Whether `text` can name a service, a pool or a backend: see FieldReader::name().
bool is_name(std::string_view text);

/// What keeps an address from being a destination ("is a multicast address"); nullptr if nothing does.
const char *address_fault(const Address &address);

/// `value` in quotes, cut and made printable: for messages.
std::string in_quotes(std::string_view value);

class FieldReader {
 public:
  explicit FieldReader(ErrorList &errors) : errors_(errors) {}

  void error(const Field &field, std::string message);

  /// Whether `field` is a map; every key outside `keys` and every second one is an error.
  bool is_map(const Field &field, std::span<const std::string_view> keys);
  bool is_list(const Field &field);

  /// The value of `key`; nothing, without an error, when it is not there.
  static std::optional<Field> find(const Field &map, std::string_view key);
  /// The value of `key`; it is an error when it is not there.
  std::optional<Field> require(const Field &map, std::string_view key);

  std::optional<std::string_view> scalar(const Field &field);
  /// 1 to 63 letters, digits, ".", "_", "-"; the first a letter or a digit.
  std::optional<std::string> name(const Field &field);
  /// Printable ASCII without spaces, 1 to `max_length` characters.
  std::optional<std::string> word(const Field &field, size_t max_length);
  /// Any text of 1 to `max_length` bytes, or "hex:" and hexadecimal digits.
  std::optional<std::string> bytes(const Field &field, size_t max_length);
  /// "Name: value" of an HTTP header (RFC 9110 section 5).
  std::optional<std::pair<std::string, std::string>> header(const Field &field, size_t max_length);
  std::optional<uint32_t> number(const Field &field, uint32_t min, uint32_t max);
  /// "0%" to "100%".
  std::optional<uint8_t> percent(const Field &field);
  std::optional<bool> boolean(const Field &field);
  std::optional<std::chrono::milliseconds> duration(const Field &field, std::chrono::milliseconds min,
                                                    std::chrono::milliseconds max);
  /// A duration of whole seconds.
  std::optional<std::chrono::seconds> seconds(const Field &field, std::chrono::seconds min,
                                              std::chrono::seconds max);
  /// A unicast address that a packet can be sent to.
  std::optional<Address> address(const Field &field);
  /// "80" or "8000-8999", from 1.
  std::optional<model::PortSpan> port_span(const Field &field);
  /// "200" or "200-399": two numbers from `min` to `max` in order. `what` names them in errors.
  std::optional<std::pair<uint16_t, uint16_t>> range(const Field &field, uint32_t min, uint32_t max,
                                                     const std::string &what);
  std::optional<FlowHashKey> flow_hash_key(const Field &field);

  template <typename Value>
  using Choices = std::vector<std::pair<std::string_view, Value>>;

  template <typename Value>
  std::optional<Value> choice(const Field &field, const Choices<Value> &choices) {
    const auto text = scalar(field);
    if (!text) return std::nullopt;
    std::string allowed;
    for (const auto &[name, value] : choices) {
      if (name == *text) return value;
      allowed += (allowed.empty() ? "" : ", ") + std::string(name);
    }
    error(field, in_quotes(*text) + " is not known; allowed: " + allowed);
    return std::nullopt;
  }

 private:
  ErrorList &errors_;
};

}  // namespace sluice

#endif
