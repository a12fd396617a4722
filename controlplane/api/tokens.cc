#include "controlplane/api/tokens.h"

#include <algorithm>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace sluice::api {

namespace {

constexpr size_t kTokenBytes = 32;
constexpr size_t kMaxTokenLength = 512;
constexpr std::string_view kScheme = "bearer";
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// RFC 4648 section 5, without padding.
std::string base64url(const std::array<uint8_t, kTokenBytes> &bytes) {
  std::string text;
  uint32_t bits = 0;
  int held = 0;
  for (const uint8_t byte : bytes) {
    bits = bits << 8 | byte;
    for (held += 8; held >= 6; held -= 6) text += kAlphabet[bits >> (held - 6) & 63];
  }
  if (held > 0) text += kAlphabet[bits << (6 - held) & 63];
  return text;
}

bool is_letter_or_digit(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// b64token of RFC 6750.
bool is_token_character(char c) {
  return is_letter_or_digit(c) || std::string_view("-._~+/=").find(c) != std::string_view::npos;
}

}  // namespace

Result<std::string> make_token() {
  std::array<uint8_t, kTokenBytes> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return Error{"the system has no random bytes"};
  return std::string(kTokenPrefix) + base64url(bytes);
}

TokenHash hash_token(std::string_view token) {
  TokenHash hash{};
  SHA256(reinterpret_cast<const unsigned char *>(token.data()), token.size(), hash.data());
  return hash;
}

std::string hash_text(const TokenHash &hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : hash) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::optional<std::string_view> parse_bearer(std::string_view authorization) {
  if (authorization.size() <= kScheme.size()) return std::nullopt;
  const bool is_bearer = std::ranges::equal(authorization.substr(0, kScheme.size()), kScheme,
                                            [](char a, char b) { return (a | 0x20) == b; });
  if (!is_bearer || authorization[kScheme.size()] != ' ') return std::nullopt;
  std::string_view token = authorization.substr(kScheme.size());
  token.remove_prefix(std::min(token.find_first_not_of(' '), token.size()));
  if (token.empty() || token.size() > kMaxTokenLength) return std::nullopt;
  if (!std::ranges::all_of(token, is_token_character)) return std::nullopt;
  return token;
}

std::string without_tokens(std::string_view text) {
  std::string kept;
  while (true) {
    const size_t at = text.find(kTokenPrefix);
    kept += text.substr(0, at);
    if (at == std::string_view::npos) return kept;
    text.remove_prefix(at + kTokenPrefix.size());
    const auto end =
        std::ranges::find_if_not(text, [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_'; });
    text.remove_prefix(static_cast<size_t>(end - text.begin()));
    kept += "[token]";
  }
}

}  // namespace sluice::api
