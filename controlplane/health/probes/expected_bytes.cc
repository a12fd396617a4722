#include "controlplane/health/probes/expected_bytes.h"

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

constexpr size_t kShownBytes = 64;

std::string escaped(char byte) {
  if (byte == '\n') return "\\n";
  if (byte == '\r') return "\\r";
  if (byte == '"' || byte == '\\') return std::string("\\") + byte;
  if (byte >= ' ' && byte < 0x7f) return std::string(1, byte);
  return fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
}

}  // namespace

std::string shown(std::string_view bytes) {
  std::string text = "\"";
  for (const char byte : bytes.substr(0, kShownBytes)) text += escaped(byte);
  return text + (bytes.size() > kShownBytes ? "...\"" : "\"");
}

std::string missing_text(std::string_view expected, std::string_view answer) {
  return fmt::format("answered {}, which does not contain {}", shown(answer), shown(expected));
}

}  // namespace sluice
