// What differs between two configurations, as the operator wrote them.
#ifndef SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_CHANGES_H
#define SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_CHANGES_H

#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

namespace sluice {

constexpr size_t kMaxListedChanges = 1000;

/// A list of {"path": "pools/web/backends/b1/weight", "old": "100", "new": "50"}, in the order of the paths;
/// "old" or "new" is not there when nothing stood there. Members of a list are compared by their "name", so
/// their order says nothing, and neither do comments and layout. Secrets are not shown: "(secret)". Beyond
/// kMaxListedChanges the last entry is {"path": "", "more": how many}. Text that is no YAML counts as empty.
nlohmann::json document_changes(std::string_view before, std::string_view after);

}  // namespace sluice

#endif
