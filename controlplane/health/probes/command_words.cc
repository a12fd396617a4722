#include "controlplane/health/probes/command_words.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

constexpr size_t kShownBytes = 200;

// What the argument's beginning stands for, and how long the placeholder is; 0: it is none.
std::pair<std::string, size_t> placeholder_value(std::string_view argument, const CommandValues &values) {
  const auto known = std::ranges::find_if(
      model::kCommandPlaceholders, [argument](std::string_view each) { return argument.starts_with(each); });
  if (known == model::kCommandPlaceholders.end()) return {"", 0};
  if (*known == "{address}") return {values.address, known->size()};
  if (*known == "{port}") return {std::to_string(values.l4_port), known->size()};
  if (*known == "{pool}") return {values.key->pool, known->size()};
  return {values.key->name, known->size()};
}

std::string replaced(std::string_view argument, const CommandValues &values) {
  std::string word;
  while (!argument.empty()) {
    const auto [value, length] = placeholder_value(argument, values);
    word += length == 0 ? std::string(1, argument[0]) : value;
    argument.remove_prefix(std::max<size_t>(1, length));
  }
  return word;
}

}  // namespace

std::vector<std::string> command_words(const std::vector<std::string> &arguments,
                                       const CommandValues &values) {
  std::vector<std::string> words;
  words.reserve(arguments.size());
  for (const std::string &argument : arguments) words.push_back(replaced(argument, values));
  return words;
}

std::string first_line(std::string_view output) {
  const std::string_view line = output.substr(0, output.find('\n'));
  std::string text;
  for (const char byte : line.substr(0, kShownBytes)) {
    if (byte >= ' ' && byte < 0x7f) {
      text += byte;
    } else if (byte != '\r') {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    }
  }
  return text + (line.size() > kShownBytes ? "..." : "");
}

std::string with_first_line(const std::string &text, std::string_view output) {
  const std::string line = first_line(output);
  return line.empty() ? text : text + ": " + line;
}

}  // namespace sluice
