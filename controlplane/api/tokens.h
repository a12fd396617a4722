// Bearer tokens: made, recognised in a header, and looked up by their hash.
#ifndef SLUICE_CONTROLPLANE_API_TOKENS_H
#define SLUICE_CONTROLPLANE_API_TOKENS_H

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/abi/result.h"

namespace sluice::api {

using TokenHash = std::array<uint8_t, 32>;

/// Begins every token, so that scanners for secrets find a leaked one.
inline constexpr std::string_view kTokenPrefix = "sluice_";

/// A new token: the prefix and 256 random bits in base64url. Fails when OpenSSL has no random bytes.
Result<std::string> make_token();

/// SHA-256 of the token's text.
TokenHash hash_token(std::string_view token);

/// "3f0a...", 64 digits.
std::string hash_text(const TokenHash &hash);

/// What follows "Bearer" in an Authorization header (RFC 6750 section 2.1); nothing when the header has
/// another scheme, or the rest is no token.
std::optional<std::string_view> parse_bearer(std::string_view authorization);

/// `text` with everything in it that looks like a token of ours replaced, for logs.
std::string without_tokens(std::string_view text);

}  // namespace sluice::api

#endif
