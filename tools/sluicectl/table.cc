#include "tools/sluicectl/table.h"

#include <algorithm>
#include <array>
#include <ctime>

namespace sluice::ctl {

namespace {

// Columns on a terminal: UTF-8's continuation bytes take none.
size_t width_of(const std::string &text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string two_units(int64_t large, const char *large_unit, int64_t small, const char *small_unit) {
  return std::to_string(large) + large_unit + " " + std::to_string(small) + small_unit;
}

void append_line(const std::vector<Column> &columns, const std::vector<size_t> &widths,
                 const std::vector<std::string> &cells, std::string *text) {
  std::string line;
  for (size_t i = 0; i < columns.size(); i++) {
    const std::string &cell = cells[i].empty() ? "-" : cells[i];
    const std::string padding(widths[i] - width_of(cell), ' ');
    if (i > 0) line += "  ";
    line += columns[i].align == Align::kRight ? padding + cell : cell + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  *text += line + "\n";
}

}  // namespace

std::string Table::text() const {
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); i++) {
    titles.push_back(columns_[i].title);
    size_t width = std::max<size_t>(1, width_of(columns_[i].title));
    for (const auto &row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string text;
  append_line(columns_, widths, titles, &text);
  for (const auto &row : rows_) append_line(columns_, widths, row, &text);
  return text;
}

std::string grouped(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t end = text.size(); end > 3; end -= 3) text.insert(end - 3, 1, ',');
  return text;
}

std::string span_text(int64_t seconds) {
  seconds = std::max<int64_t>(0, seconds);
  if (seconds >= 86400) return two_units(seconds / 86400, "d", seconds % 86400 / 3600, "h");
  if (seconds >= 3600) return two_units(seconds / 3600, "h", seconds % 3600 / 60, "m");
  if (seconds >= 60) return two_units(seconds / 60, "m", seconds % 60, "s");
  return std::to_string(seconds) + "s";
}

std::string time_text(int64_t unix_s) {
  const std::time_t time = unix_s;
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

}  // namespace sluice::ctl
