// A program that a check runs.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_CHILD_PROCESS_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_CHILD_PROCESS_H

#include <memory>
#include <string>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <sys/types.h>

#include "dataplane/abi/result.h"

namespace sluice {

/// In a session and process group of its own, with three descriptors and one for its report. Used on the
/// loop's thread only.
class ChildProcess {
 public:
  /// The first of `command_line` is a path. `environment`: "NAME=value". Standard input is empty; the
  /// program's report is read from its descriptor `report`. Errors are this host's.
  static Result<std::unique_ptr<ChildProcess>> start(boost::asio::io_context &io,
                                                     const std::vector<std::string> &command_line,
                                                     const std::vector<std::string> &environment, int report);
  /// Kills it, if it has not been waited for.
  ~ChildProcess();
  ChildProcess(const ChildProcess &) = delete;
  ChildProcess &operator=(const ChildProcess &) = delete;

  /// Reads what it writes, until nobody can write any more, it is killed, or it has written more than `most`.
  boost::asio::awaitable<void> read_output(size_t most);
  /// Standard output and error, as they came.
  const std::string &output() const { return output_; }

  /// All of its process group; what it writes from now on is not read.
  void kill();

  /// Until it has ended.
  boost::asio::awaitable<void> wait();
  /// After wait(): what it wrote to its report.
  std::string report() const;

 private:
  ChildProcess(boost::asio::io_context &io, pid_t process, int ended, int output, int report);

  pid_t process_;                                  // also its group; 0: it was waited for
  boost::asio::posix::stream_descriptor ended_;    // a pidfd
  boost::asio::posix::stream_descriptor reading_;  // its output
  int report_;
  std::string output_;
};

}  // namespace sluice

#endif
