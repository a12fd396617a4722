// YAML text as a tree of values that know where they stand. Made from yaml-cpp's event stream, since
// its own nodes drop duplicate keys silently and expand aliases.
#ifndef SLUICE_CONTROLPLANE_CONFIG_YAML_TREE_H
#define SLUICE_CONTROLPLANE_CONFIG_YAML_TREE_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// A place in the text, both counted from 1; 0 means the text as a whole.
struct TextPlace {
  int line = 0;
  int column = 0;
};

/// kRefused: something that must not be there, such as an alias, stood for the value. There is a fault about
/// it, and nothing else is to be said of it.
enum class YamlKind : uint8_t { kNull, kScalar, kList, kMap, kRefused };

struct YamlEntry;

/// One value. `text` belongs to a scalar, `items` to a list, `entries` to a map (duplicates included).
struct YamlNode {
  YamlKind kind = YamlKind::kNull;
  TextPlace place;
  std::string text;
  std::vector<YamlNode> items;
  std::vector<YamlEntry> entries;
};

struct YamlEntry {
  std::string key;
  TextPlace key_place;
  bool key_is_refused = false;  // as kRefused
  YamlNode value;
};

/// What is wrong with the text as YAML.
struct YamlFault {
  TextPlace place;
  std::string message;
};

/// The tree, so that its values can be checked though there are faults; none after a fault that ended the
/// reading.
struct YamlDocument {
  std::optional<YamlNode> root;
  std::vector<YamlFault> faults;
};

constexpr size_t kMaxYamlBytes = 16u << 20;
constexpr size_t kMaxYamlNodes = 2u << 20;
constexpr size_t kMaxYamlDepth = 16;
constexpr size_t kMaxYamlFaults = 1000;  // more end the reading

/// Parses one document. Any bytes are safe: size, depth and the number of nodes are bounded; anchors,
/// aliases, tags, keys that are not text and a second document are faults.
YamlDocument parse_yaml(std::string_view text);

}  // namespace sluice

#endif
