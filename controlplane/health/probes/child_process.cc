#include "controlplane/health/probes/child_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kReadBytes = 4096;

Error system_error(const std::string &what, int error) {
  return Error{what + ": " + std::generic_category().message(error)};
}

// A descriptor, closed when this goes.
class Owned {
 public:
  explicit Owned(int fd = -1) : fd_(fd) {}
  Owned(Owned &&other) noexcept : fd_(other.release()) {}
  Owned &operator=(Owned &&other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Owned() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct Pipe {
  Owned read;
  Owned write;  // above the descriptors that the child will have
};

Result<Owned> above(const Owned &descriptor, int least) {
  Owned moved(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, least + 1));
  if (moved.get() < 0) return system_error("a descriptor", errno);
  return moved;
}

Result<Pipe> make_pipe(int least) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("a pipe", errno);
  Owned read(ends[0]);
  Result<Owned> write = above(Owned(ends[1]), least);
  if (!write.ok()) return write.error();
  return Pipe{std::move(read), std::move(write).value()};
}

// A file rather than a pipe: who writes to it does not die of it when this process has died.
Result<Owned> make_report(int least) {
  const Owned file(::memfd_create("report", MFD_CLOEXEC));
  if (file.get() < 0) return system_error("a file in memory", errno);
  return above(file, least);
}

std::vector<char *> pointers(const std::vector<std::string> &words) {
  std::vector<char *> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string &word : words) pointers.push_back(const_cast<char *>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What the child is to have. The first error stays.
class SpawnSetting {
 public:
  SpawnSetting() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  ~SpawnSetting() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetting(const SpawnSetting &) = delete;
  SpawnSetting &operator=(const SpawnSetting &) = delete;

  // None of this process's descriptors but `output` and `report`: many are not close-on-exec.
  void give(int output, int report, int report_as) {
    note(posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
    note(posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO));
    note(posix_spawn_file_actions_adddup2(&actions_, output, STDERR_FILENO));
    note(posix_spawn_file_actions_adddup2(&actions_, report, report_as));
    note(posix_spawn_file_actions_addclosefrom_np(&actions_, report_as + 1));
  }

  // None of this process's ignored and blocked signals.
  void take_away_signals() {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    note(posix_spawnattr_setsigmask(&attributes_, &none));
    note(posix_spawnattr_setsigdefault(&attributes_, &all));
    note(posix_spawnattr_setflags(&attributes_,
                                  POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | int{POSIX_SPAWN_SETSID}));
  }

  int spawn(pid_t *process, const std::vector<char *> &arguments, const std::vector<char *> &environment) {
    if (error_ != 0) return error_;
    return posix_spawn(process, arguments[0], &actions_, &attributes_, arguments.data(), environment.data());
  }

 private:
  void note(int error) {
    if (error_ == 0) error_ = error;
  }

  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
  int error_ = 0;
};

}  // namespace

ChildProcess::ChildProcess(asio::io_context &io, pid_t process, int ended, int output, int report)
    : process_(process), ended_(io, ended), reading_(io, output), report_(report) {}

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(asio::io_context &io,
                                                          const std::vector<std::string> &command_line,
                                                          const std::vector<std::string> &environment,
                                                          int report) {
  Result<Pipe> output_pipe = make_pipe(report);
  if (!output_pipe.ok()) return output_pipe.error();
  Result<Owned> report_file = make_report(report);
  if (!report_file.ok()) return report_file.error();
  SpawnSetting setting;
  setting.give(output_pipe.value().write.get(), report_file.value().get(), report);
  setting.take_away_signals();
  pid_t process = 0;
  const int error = setting.spawn(&process, pointers(command_line), pointers(environment));
  if (error != 0) return system_error(command_line[0], error);
  const int ended = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));  // glibc 2.36's has no C linkage
  if (ended < 0) {
    const int why = errno;
    ::kill(-process, SIGKILL);
    ::waitpid(process, nullptr, 0);
    return system_error("a process descriptor", why);
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(
      io, process, ended, output_pipe.value().read.release(), report_file.value().release()));
}

ChildProcess::~ChildProcess() {
  ::close(report_);
  if (process_ == 0) return;
  kill();
  // What was killed ends soon, and leaves nothing behind then.
  ::waitpid(process_, nullptr, 0);
}

asio::awaitable<void> ChildProcess::read_output(size_t most) {
  std::array<char, kReadBytes> bytes{};
  error_code error;
  while (output_.size() <= most) {
    const size_t count = co_await reading_.async_read_some(asio::buffer(bytes),
                                                           asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    output_.append(bytes.data(), count);
  }
}

// The group is there until its leader was waited for, whatever else has ended.
void ChildProcess::kill() {
  if (process_ != 0) ::kill(-process_, SIGKILL);
  error_code ignored;
  reading_.close(ignored);
}

asio::awaitable<void> ChildProcess::wait() {
  error_code error;
  co_await ended_.async_wait(asio::posix::stream_descriptor::wait_read,
                             asio::redirect_error(asio::use_awaitable, error));
  ::waitpid(process_, nullptr, 0);
  process_ = 0;
}

std::string ChildProcess::report() const {
  std::string report(kReadBytes, '\0');
  const ssize_t count = ::pread(report_, report.data(), report.size(), 0);
  report.resize(static_cast<size_t>(std::max<ssize_t>(0, count)));
  return report;
}

}  // namespace sluice
