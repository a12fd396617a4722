// "api": where the REST API listens and who may do what.
#ifndef SLUICE_CONTROLPLANE_CONFIG_API_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_API_READER_H

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"
#include "controlplane/model/api_access.h"

namespace sluice {

/// Notes an error for everything that is wrong, and gives what could be read. Files are named, not read.
PlacedApi read_api(const Field &field, FieldReader &reader);

/// "role" and "services" of one entry. `granted` gets the services' places.
model::Grant read_grant(const Field &field, FieldReader &reader, std::vector<GrantedService> *granted);

std::span<const std::string_view> api_keys();
std::span<const std::string_view> api_socket_keys();
std::span<const std::string_view> api_client_keys();
std::span<const std::string_view> api_local_keys();
std::span<const std::string_view> api_limit_keys();

}  // namespace sluice

#endif
