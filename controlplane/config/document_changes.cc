#include "controlplane/config/document_changes.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>

#include "controlplane/config/yaml_tree.h"

namespace sluice {
namespace {

using nlohmann::json;

// Of whose values only that they differ may be told: the flow hash's key, and where credentials are in
// checks.
constexpr std::array<std::string_view, 5> kSecretKeys = {"flow_hash_key", "headers", "send", "expect",
                                                         "body"};
constexpr const char *kSecret = "(secret)";
constexpr size_t kMaxShownBytes = 4096;

const YamlNode *name_of(const YamlNode &node) {
  const auto found = std::ranges::find(node.entries, "name", &YamlEntry::key);
  const bool is_text = found != node.entries.end() && found->value.kind == YamlKind::kScalar;
  return is_text ? &found->value : nullptr;
}

// A list whose members all have names, each another one.
bool is_named_list(const YamlNode &node) {
  std::set<std::string_view> names;
  return !node.items.empty() && std::ranges::all_of(node.items, [&](const YamlNode &item) {
    const YamlNode *name = name_of(item);
    return name != nullptr && names.insert(name->text).second;
  });
}

json value_of(const YamlNode &node);

json object_of(const YamlNode &node) {
  json object = json::object();
  for (const YamlEntry &entry : node.entries) object[entry.key] = value_of(entry.value);
  return object;
}

json value_of(const YamlNode &node) {
  switch (node.kind) {
    case YamlKind::kScalar:
      return node.text;
    case YamlKind::kMap:
      return object_of(node);
    case YamlKind::kList: {
      const bool is_named = is_named_list(node);
      json list = is_named ? json::object() : json::array();
      for (const YamlNode &item : node.items) {
        if (!is_named) {
          list.push_back(value_of(item));
          continue;
        }
        json member = object_of(item);
        member.erase("name");
        list[name_of(item)->text] = std::move(member);
      }
      return list;
    }
    default:
      return nullptr;
  }
}

json read(std::string_view text) {
  const YamlDocument document = parse_yaml(text);
  return document.root ? value_of(*document.root) : json::object();
}

bool is_secret(const std::string &key) { return std::ranges::find(kSecretKeys, key) != kSecretKeys.end(); }

// Without secrets at any depth, and of a size for people.
json shown(const json &value) {
  if (!value.is_structured()) return value;
  json copy = value;
  for (auto &[key, member] : copy.items())
    member = value.is_object() && is_secret(key) ? json(kSecret) : shown(member);
  if (copy.dump(-1, ' ', false, json::error_handler_t::replace).size() > kMaxShownBytes)
    return "(" + std::to_string(copy.size()) + " entries)";
  return copy;
}

class Comparison {
 public:
  json take() {
    if (left_out_ > 0) changes_.push_back({{"path", ""}, {"more", left_out_}});
    return std::move(changes_);
  }

  void compare(const std::string &path, const json *before, const json *after) {
    if (before != nullptr && after != nullptr && *before == *after) return;
    const bool hides = is_secret(path.substr(path.rfind('/') + 1));
    if (!hides && before != nullptr && after != nullptr && before->is_object() && after->is_object())
      return compare_members(path, *before, *after);
    if (changes_.size() >= kMaxListedChanges) {
      left_out_++;
      return;
    }
    json change = {{"path", path}};
    if (before != nullptr) change["old"] = hides ? json(kSecret) : shown(*before);
    if (after != nullptr) change["new"] = hides ? json(kSecret) : shown(*after);
    changes_.push_back(std::move(change));
  }

 private:
  static const json *member(const json &object, const std::string &key) {
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
  }

  void compare_members(const std::string &path, const json &before, const json &after) {
    std::set<std::string> keys;
    for (const json *object : {&before, &after})
      for (const auto &[key, value] : object->items()) keys.insert(key);
    for (const std::string &key : keys)
      compare(path.empty() ? key : path + "/" + key, member(before, key), member(after, key));
  }

  json changes_ = json::array();
  size_t left_out_ = 0;
};

}  // namespace

json document_changes(std::string_view before, std::string_view after) {
  const json old_value = read(before);
  const json new_value = read(after);
  Comparison comparison;
  comparison.compare("", &old_value, &new_value);
  return comparison.take();
}

}  // namespace sluice
