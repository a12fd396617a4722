#include "tests/controlplane/sluiced/process.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/server/temporary_directory.h"

namespace sluice {

namespace {

using namespace std::chrono_literals;

pid_t spawn(const std::vector<std::string> &argv, const std::string &in, const std::string &out,
            const std::string &err) {
  std::vector<char *> arguments;
  for (const std::string &argument : argv) arguments.push_back(const_cast<char *>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  pid_t pid = -1;
  const int failed = posix_spawn(&pid, argv[0].c_str(), &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) {  // a test without its program proves nothing
    std::fprintf(stderr, "cannot start %s\n", argv[0].c_str());
    std::abort();
  }
  return pid;
}

int exit_code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

Process::Process(const std::vector<std::string> &argv, const std::filesystem::path &log)
    : pid_(spawn(argv, "/dev/null", log, log)) {}

Process::~Process() {
  if (!running()) return;
  kill(pid_, SIGKILL);
  reap(0);
}

std::optional<int> Process::reap(int options) {
  if (exit_code_.has_value()) return exit_code_;
  int status = 0;
  if (waitpid(pid_, &status, options) == pid_) exit_code_ = exit_code_of(status);
  return exit_code_;
}

void Process::signal(int number) const { kill(pid_, number); }

bool Process::running() { return !reap(WNOHANG).has_value(); }

std::optional<int> Process::wait() {
  eventually([this] { return !running(); });
  return exit_code_;
}

Finished run_program(const std::vector<std::string> &argv, const std::string &input) {
  const TemporaryDirectory directory;
  const std::filesystem::path in = directory.path() / "in";
  const std::filesystem::path out = directory.path() / "out";
  const std::filesystem::path err = directory.path() / "err";
  write_text(in, input);
  const pid_t pid = spawn(argv, in, out, err);
  int status = 0;
  waitpid(pid, &status, 0);
  return {exit_code_of(status), read_text(out), read_text(err)};
}

bool eventually(const std::function<bool()> &condition) {
  const auto give_up = std::chrono::steady_clock::now() + 30s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

std::string read_text(const std::filesystem::path &path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write_text(const std::filesystem::path &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace sluice
