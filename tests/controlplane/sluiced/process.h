// Programs under test, as processes of their own.
#ifndef SLUICE_TESTS_CONTROLPLANE_SLUICED_PROCESS_H
#define SLUICE_TESTS_CONTROLPLANE_SLUICED_PROCESS_H

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace sluice {

/// A program in the background, its output appended to `log`. Killed when it goes.
class Process {
 public:
  Process(const std::vector<std::string> &argv, const std::filesystem::path &log);
  ~Process();
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;

  void signal(int number) const;
  bool running();
  /// Waits for its end: the exit code, 128 + signal, or nothing when it is still there after a minute.
  std::optional<int> wait();

 private:
  std::optional<int> reap(int options);

  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

struct Finished {
  int exit_code = -1;
  std::string out;
  std::string err;
};

/// Runs a program to its end, `input` on its standard input.
Finished run_program(const std::vector<std::string> &argv, const std::string &input = "");

/// Waits until `condition` holds, half a minute at most.
bool eventually(const std::function<bool()> &condition);

std::string read_text(const std::filesystem::path &path);
void write_text(const std::filesystem::path &path, const std::string &text);

}  // namespace sluice

#endif
