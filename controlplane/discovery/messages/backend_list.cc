#include "controlplane/discovery/messages/backend_list.h"

#include <spdlog/fmt/fmt.h>

#include "controlplane/config/yaml_tree.h"
#include "controlplane/discovery/messages/entry.h"

namespace sluice {

namespace {

Result<EntryFields> fields_of(const YamlNode &node) {
  if (node.kind != YamlKind::kMap) return Error{"is no map; write {name: NAME, address: ADDRESS}"};
  EntryFields fields;
  for (const YamlEntry &entry : node.entries) {
    if (entry.value.kind != YamlKind::kScalar)
      return Error{fmt::format("\"{}\" is no single value", entry.key)};
    if (!fields.emplace(entry.key, entry.value.text).second)
      return Error{fmt::format("\"{}\" is there twice", entry.key)};
  }
  return fields;
}

}  // namespace

Result<Answer> parse_backend_list(std::string_view text, uint16_t weight) {
  const YamlDocument document = parse_yaml(text);
  if (!document.faults.empty()) {
    const YamlFault &fault = document.faults.front();
    if (fault.place.line == 0)
      return Error{document.root ? fault.message : "is empty; [] stands for no backends"};
    return Error{fmt::format("line {}, column {}: {}", fault.place.line, fault.place.column, fault.message)};
  }
  if (document.root->kind != YamlKind::kList) return Error{"is no list of backends"};
  Answer answer;
  for (const YamlNode &item : document.root->items) {
    const Result<EntryFields> fields = fields_of(item);
    const Result<FoundBackend> backend =
        fields.ok() ? make_entry(fields.value(), "", weight) : Result<FoundBackend>(fields.error());
    if (backend.ok()) {
      answer.backends.push_back(backend.value());
    } else {
      answer.skipped.add(fmt::format("line {}: {}", item.place.line, backend.error().message));
    }
  }
  return answer;
}

}  // namespace sluice
