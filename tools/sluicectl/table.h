// Aligned columns for people.
#ifndef SLUICE_TOOLS_SLUICECTL_TABLE_H
#define SLUICE_TOOLS_SLUICECTL_TABLE_H

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::ctl {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

/// Rows are as long as the columns are many. Empty cells show as "-".
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }

  /// Title line and rows, two spaces between columns, no spaces at line ends.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// "1234567" -> "1,234,567".
std::string grouped(uint64_t number);

/// "3d 4h", "2h 5m", "10m 3s", "4s".
std::string span_text(int64_t seconds);

/// "2026-11-20 04:00:01 UTC".
std::string time_text(int64_t unix_s);

}  // namespace sluice::ctl

#endif
