// Any bytes as the file of tokens that the API takes: tokens or errors, never both, and every hash is of 64
// digits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/config/token_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  const sluice::LoadedTokens loaded = sluice::load_tokens(text, "fuzz");
  if (!loaded.ok() && !loaded.tokens.empty()) std::abort();
  for (const sluice::model::ApiToken &token : loaded.tokens) {
    if (token.name.empty() || token.grant.role < sluice::model::Role::kViewer) std::abort();
    if (token.expires_unix_s &&
        sluice::parse_moment(sluice::format_moment(*token.expires_unix_s)) != token.expires_unix_s)
      std::abort();
  }
  return 0;
}
