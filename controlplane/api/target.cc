#include "controlplane/api/target.h"

#include <spdlog/fmt/fmt.h>

namespace sluice::api {

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

// Cuts off what comes before the first `separator`; all of it when there is none.
std::string_view take_until(std::string_view &rest, char separator) {
  const size_t end = rest.find(separator);
  const std::string_view taken = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return taken;
}

Status parse_query(std::string_view text, std::map<std::string, std::string> *query) {
  while (!text.empty()) {
    std::string_view value = take_until(text, '&');
    if (value.empty()) continue;
    const std::string_view name = take_until(value, '=');
    const auto decoded_name = percent_decode(name);
    const auto decoded_value = percent_decode(value);
    if (!decoded_name || !decoded_value) {
      return Error{fmt::format("query parameter \"{}\": '%' must be followed by two hex digits", name)};
    }
    if (!query->emplace(*decoded_name, *decoded_value).second) {
      return Error{fmt::format("query parameter \"{}\" is given twice; give it once", *decoded_name)};
    }
  }
  return Done{};
}

}  // namespace

Result<Target> parse_target(std::string_view text) {
  if (text.empty() || text.front() != '/') {
    return Error{"the request target must be a path that starts with '/'"};
  }
  Target target;
  std::string_view query = text.substr(1);
  std::string_view path = take_until(query, '?');
  while (!path.empty()) {
    const std::string_view segment = take_until(path, '/');
    const auto decoded = percent_decode(segment);
    if (!decoded) {
      return Error{fmt::format("path segment \"{}\": '%' must be followed by two hex digits", segment)};
    }
    if (decoded->empty()) return Error{"the path has an empty segment (\"//\")"};
    target.segments.push_back(*decoded);
  }
  const Status parsed = parse_query(query, &target.query);
  if (!parsed.ok()) return parsed.error();
  return target;
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                            c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace sluice::api
