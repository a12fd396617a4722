#include "controlplane/discovery/messages/registration.h"

#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"
#include "controlplane/discovery/messages/entry.h"

namespace sluice {

Result<FoundBackend> parse_registration(std::string_view name, std::string_view body) {
  Result<EntryFields> fields = json_fields(body);
  if (!fields.ok()) return Error{"the body " + fields.error().message};
  const auto ttl_text = fields.value().find("ttl");
  if (ttl_text == fields.value().end())
    return Error{"ttl is missing; give how long this is true, as \"10s\""};
  const auto ttl = parse_duration(ttl_text->second);
  if (!ttl || *ttl < kMinRegistrationTtl || *ttl > kMaxRegistrationTtl)
    return Error{
        fmt::format("ttl {} is no duration from 1s to 24h, such as 10s", in_quotes(ttl_text->second))};
  fields.value().erase(ttl_text);
  if (fields.value().contains("name")) return Error{"name is in the path, not in the body"};
  constexpr uint16_t kWeight = 100;
  Result<FoundBackend> backend = make_entry(fields.value(), name, kWeight);
  if (backend.ok()) backend.value().ttl = *ttl;
  return backend;
}

}  // namespace sluice
