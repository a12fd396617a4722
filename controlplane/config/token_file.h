// The file of tokens that the API takes: a list in YAML, one entry for each token.
//   - {name: ci, role: operator, services: [web], expires: "2027-02-20T00:00:00Z", sha256: 64 hex digits}
#ifndef SLUICE_CONTROLPLANE_CONFIG_TOKEN_FILE_H
#define SLUICE_CONTROLPLANE_CONFIG_TOKEN_FILE_H

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/config/config_loader.h"
#include "controlplane/model/api_access.h"

namespace sluice {

struct LoadedTokens {
  std::vector<model::ApiToken> tokens;
  std::vector<ConfigError> errors;  // with any, there are no tokens

  bool ok() const { return errors.empty(); }
};

constexpr size_t kMaxTokens = 10'000;
constexpr size_t kMaxTokenFileBytes = 4u << 20;

/// `file` is the name that errors carry. Any bytes are safe. An empty file has no tokens.
LoadedTokens load_tokens(std::string_view text, const std::string &file);

/// "2027-02-20T00:00:00Z" as seconds since 1970, and back; nothing for any other way of writing a moment, and
/// for years outside of 1970 to 9999.
std::optional<int64_t> parse_moment(std::string_view text);
std::string format_moment(int64_t unix_s);

}  // namespace sluice

#endif
