#include "tests/controlplane/lifecycle/documented_rows.h"

#include <fstream>
#include <sstream>

namespace sluice {

std::vector<Cells> documented_rows(const std::string &title) {
  std::ifstream readme(LIFECYCLE_README);
  std::vector<Cells> rows;
  bool inside = false;
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("| " + title)) {
      inside = true;
      std::getline(readme, line);
      continue;
    }
    if (inside && !line.starts_with("|")) break;
    if (!inside) continue;
    Cells &cells = rows.emplace_back();
    std::istringstream text(line.substr(1));
    for (std::string cell; std::getline(text, cell, '|');) {
      const size_t first = cell.find_first_not_of(' ');
      cells.push_back(
          first == std::string::npos ? "" : cell.substr(first, cell.find_last_not_of(' ') + 1 - first));
    }
  }
  return rows;
}

}  // namespace sluice
