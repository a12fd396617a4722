// "tls" of a health check and of a discovery source: the same keys in both.
#ifndef SLUICE_CONTROLPLANE_CONFIG_TLS_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_TLS_READER_H

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/model/health_check.h"

namespace sluice {

/// Nothing when `field` is no map. Notes an error for everything that is wrong.
std::optional<model::TlsOptions> read_tls_options(const Field &field, FieldReader &reader);

std::span<const std::string_view> tls_keys();

/// Whether `text` is what SNI takes (RFC 6066 section 3), '_' included, which some names have.
bool is_host_name(std::string_view text);

/// The longest path of a file that the operator names.
inline constexpr size_t kMaxFilePathLength = 4095;
inline constexpr size_t kMaxHostLength = 255;

}  // namespace sluice

#endif
