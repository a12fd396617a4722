#include "tools/sluicectl/doctor/host.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace sluice::ctl {

namespace {

namespace fs = std::filesystem;

constexpr int kMostCpus = 8192;  // of CONFIG_NR_CPUS

template <typename Number>
bool parse(std::string_view text, Number *number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

bool Host::has(const std::string &path) const {
  std::error_code ignored;
  return fs::exists(at(path), ignored);
}

std::optional<std::string> Host::text(const std::string &path) const {
  std::ifstream file(at(path), std::ios::binary);
  if (!file.is_open()) return std::nullopt;
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return std::nullopt;
  constexpr const char *kSpaces = " \t\r\n";
  const size_t begin = content.find_first_not_of(kSpaces);
  if (begin == std::string::npos) return "";
  return content.substr(begin, content.find_last_not_of(kSpaces) - begin + 1);
}

std::optional<int64_t> Host::number(const std::string &path) const {
  const std::optional<std::string> content = text(path);
  int64_t value = 0;
  if (!content || !parse(std::string_view(*content), &value)) return std::nullopt;
  return value;
}

std::vector<std::string> Host::names(const std::string &directory) const {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto &entry : fs::directory_iterator(at(directory), ignored))
    found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

std::string Host::link_name(const std::string &path) const {
  std::error_code error;
  const fs::path target = fs::read_symlink(at(path), error);
  return error ? "" : target.filename().string();
}

std::vector<int> numbers_of_list(const std::string &list) {
  std::vector<int> numbers;
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t dash = part.find('-');
    int first = 0;
    int last = 0;
    if (!parse(std::string_view(part).substr(0, dash), &first)) return {};
    last = first;
    if (dash != std::string::npos && !parse(std::string_view(part).substr(dash + 1), &last)) return {};
    if (first < 0 || last >= kMostCpus) return {};
    for (int number = first; number <= last; number++) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace sluice::ctl
