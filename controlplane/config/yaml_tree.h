// YAML text as a tree of values that know where they stand. Made from yaml-cpp's event stream, since
// its own nodes drop duplicate keys silently and expand aliases.
#ifndef SLUICE_CONTROLPLANE_CONFIG_YAML_TREE_H
#define SLUICE_CONTROLPLANE_CONFIG_YAML_TREE_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice {

/// A place in the text, both counted from 1; 0 means the text as a whole.
struct TextPlace {
  int line = 0;
  int column = 0;
};

enum class YamlKind : uint8_t { kNull, kScalar, kList, kMap };

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
  YamlNode value;
};

/// Why the text is no tree.
struct YamlFault {
  TextPlace place;
  std::string message;
};

constexpr size_t kMaxYamlBytes = 16u << 20;
constexpr size_t kMaxYamlNodes = 2u << 20;
constexpr size_t kMaxYamlDepth = 16;

/// Parses one document. Any bytes are safe: size, depth and the number of nodes are bounded; anchors,
/// aliases, tags, keys that are not text and a second document are faults.
std::variant<YamlNode, YamlFault> parse_yaml(std::string_view text);

}  // namespace sluice

#endif
