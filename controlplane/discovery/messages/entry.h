// One backend out of named values, whichever format they came in: a file's map, a key of etcd, a
// registration.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_ENTRY_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_ENTRY_H

#include <map>
#include <string>
#include <string_view>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// Texts by key: name, address, weight, priority, check_port, drain.
using EntryFields = std::map<std::string, std::string>;

/// Errors name the field and the value. `name` is that of an entry which names none; empty: its address is
/// its name. `weight` is that of an entry without one.
Result<FoundBackend> make_entry(const EntryFields &fields, std::string_view name, uint16_t weight);

/// The fields of one JSON object. Errors say what is no such object.
Result<EntryFields> json_fields(std::string_view text);

/// Values above this are cut in what is said of them.
inline constexpr size_t kMaxEntryBytes = 4096;

}  // namespace sluice

#endif
