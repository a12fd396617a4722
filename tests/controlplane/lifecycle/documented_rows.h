// The tables of the lifecycle's README, to be compared with the program.
#ifndef SLUICE_TESTS_CONTROLPLANE_LIFECYCLE_DOCUMENTED_ROWS_H
#define SLUICE_TESTS_CONTROLPLANE_LIFECYCLE_DOCUMENTED_ROWS_H

#include <string>
#include <vector>

namespace sluice {

using Cells = std::vector<std::string>;

/// The cells of the README's table whose title row begins with `title`, without that row and the line under
/// it.
std::vector<Cells> documented_rows(const std::string &title);

}  // namespace sluice

#endif
