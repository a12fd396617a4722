#include "controlplane/config/token_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <map>
#include <utility>

#include "controlplane/config/api_reader.h"
#include "controlplane/config/field_reader.h"
#include "controlplane/config/yaml_tree.h"

namespace sluice {
namespace {

constexpr std::array<std::string_view, 5> kTokenKeys = {"name", "role", "services", "expires", "sha256"};
constexpr std::string_view kMomentShape = "dddd-dd-ddTdd:dd:ddZ";  // RFC 3339, in UTC

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

bool read_hash(std::string_view text, std::array<uint8_t, 32> *hash) {
  if (text.size() != 2 * hash->size()) return false;
  for (size_t i = 0; i < hash->size(); ++i) {
    const int high = hex_value(text[2 * i]);
    const int low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*hash)[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

model::ApiToken read_token(const Field &field, FieldReader &reader) {
  model::ApiToken token;
  if (!reader.is_map(field, kTokenKeys)) return token;
  if (const auto name = reader.require(field, "name")) token.name = reader.name(*name).value_or("");
  std::vector<GrantedService> granted;  // which services there are is the configuration's to say
  token.grant = read_grant(field, reader, &granted);
  if (const auto expires = FieldReader::find(field, "expires")) {
    if (const auto text = reader.scalar(*expires)) {
      token.expires_unix_s = parse_moment(*text);
      if (!token.expires_unix_s) {
        reader.error(*expires, in_quotes(*text) +
                                   " is no moment; allowed: one in UTC such as \"2027-02-20T00:00:00Z\"");
      }
    }
  }
  if (const auto hash = reader.require(field, "sha256")) {
    const auto text = reader.scalar(*hash);
    if (text && !read_hash(*text, &token.sha256))
      reader.error(*hash, "is no SHA-256 of a token; allowed: 64 hexadecimal digits");
  }
  return token;
}

// A file without tokens yet is no fault, though YAML has no document in it.
bool has_content(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const size_t first = line.find_first_not_of(" \t\r");
    if (first != std::string_view::npos && line[first] != '#') return true;
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return false;
}

std::vector<model::ApiToken> read_tokens(const YamlNode &root, FieldReader &reader) {
  std::vector<model::ApiToken> tokens;
  const Field list{&root};
  if (!reader.is_list(list)) return tokens;
  if (root.items.size() > kMaxTokens) {
    reader.error(
        list, "has " + std::to_string(root.items.size()) + " tokens; allowed: " + std::to_string(kMaxTokens));
    return tokens;
  }
  std::map<std::string, size_t> names;
  std::map<std::array<uint8_t, 32>, size_t> hashes;
  for (size_t i = 0; i < root.items.size(); ++i) {
    const Field item = list.item(i);
    tokens.push_back(read_token(item, reader));
    const auto [named, is_new] = names.emplace(tokens.back().name, i);
    if (!is_new && !named->first.empty())
      reader.error(item, "is named " + in_quotes(named->first) + ", as another one; names must be unique");
    if (!hashes.emplace(tokens.back().sha256, i).second && !tokens.back().name.empty())
      reader.error(item, "has the sha256 of another one; remove one of them");
  }
  return tokens;
}

}  // namespace

std::optional<int64_t> parse_moment(std::string_view text) {
  if (text.size() != kMomentShape.size()) return std::nullopt;
  std::array<int, 6> numbers{};
  size_t number = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (kMomentShape[i] != 'd') {
      if (text[i] != kMomentShape[i]) return std::nullopt;
      number++;
    } else if (!is_digit) {
      return std::nullopt;
    } else {
      numbers.at(number) = numbers.at(number) * 10 + (text[i] - '0');
    }
  }
  using namespace std::chrono;
  const auto [year_number, month_number, day_number, hour, minute, second] = numbers;
  const year_month_day date{year(year_number), month(static_cast<unsigned>(month_number)),
                            day(static_cast<unsigned>(day_number))};
  if (!date.ok() || year_number < 1970 || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  const sys_seconds moment = sys_days(date) + hours(hour) + minutes(minute) + seconds(second);
  return moment.time_since_epoch().count();
}

std::string format_moment(int64_t unix_s) {
  using namespace std::chrono;
  const sys_seconds moment{seconds(unix_s)};
  const sys_days days = floor<std::chrono::days>(moment);
  const year_month_day date{days};
  const hh_mm_ss<seconds> time{moment - days};
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ", int{date.year()},
                unsigned{date.month()}, unsigned{date.day()}, static_cast<int>(time.hours().count()),
                static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()));
  return text.data();
}

LoadedTokens load_tokens(std::string_view text, const std::string &file) {
  ErrorList errors(file);
  if (text.size() > kMaxTokenFileBytes) {
    errors.add({}, "", "", "has more than " + std::to_string(kMaxTokenFileBytes) + " bytes");
    return {{}, errors.take()};
  }
  if (!has_content(text)) return {};
  YamlDocument document = parse_yaml(text);
  for (YamlFault &fault : document.faults) errors.add(fault.place, "", "", std::move(fault.message));
  FieldReader reader(errors);
  LoadedTokens loaded;
  if (document.root) loaded.tokens = read_tokens(*document.root, reader);
  if (!errors.empty()) return {{}, errors.take()};
  return loaded;
}

}  // namespace sluice
