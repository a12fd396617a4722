// A list of backends in a file: read when its directory says that something was changed there, and now and
// then.
#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/config/yaml_tree.h"
#include "controlplane/discovery/messages/backend_list.h"
#include "controlplane/discovery/source.h"
#include "controlplane/health/probes/small_file.h"

namespace sluice {

namespace {

namespace asio = boost::asio;

// Of the directory: so that a file that another one is renamed over is noticed, and a link that is swapped
// for another, as Kubernetes does it. Writing is not among them: a file is read when its writer has closed
// it.
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                             IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr std::chrono::milliseconds kSettleTime{20};  // a swap is several events

// Another one when the file was changed, or is another file.
struct Stamp {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t changed_s = 0;
  int64_t changed_ns = 0;

  bool operator==(const Stamp &) const = default;
};

std::optional<Stamp> stamp_of(const std::string &path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return Stamp{status.st_dev, status.st_ino, status.st_size, status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
}

class FileSource : public Source {
 public:
  FileSource(SourceContext &context, const model::DiscoverySpec &spec, Signal &wake)
      : spec_(spec), path_(std::get<model::FileSource>(spec.kind).path), wake_(wake), events_(context.io) {
    const int inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (inotify < 0) {  // the user's limit: then the interval has to do
      spdlog::warn("{} is not watched, only looked at: {}", path_, std::generic_category().message(errno));
      return;
    }
    events_.assign(inotify);
    wait_for_events();
  }

  asio::awaitable<Result<Said>> next() override {
    while (!stopped_) {
      watch_directory();  // before reading: what changes after it is an event
      const auto stamp = stamp_of(path_);
      if (!stamp || stamp != read_) co_return read(stamp);
      co_await wake_.wait_until(Signal::Clock::now() + spec_.interval);
      if (!stopped_) co_await wake_.wait_until(Signal::Clock::now() + kSettleTime);
    }
    co_return Error{"stopped"};
  }

  void stop() override {
    stopped_ = true;
    boost::system::error_code ignored;
    events_.close(ignored);
  }

 private:
  Result<Said> read(const std::optional<Stamp> &stamp) {
    read_.reset();  // what cannot be used is looked at again
    const auto text = read_small_file(path_, kMaxYamlBytes / 1024);
    if (!text.ok()) return Error{fmt::format("{}: {}", path_, text.error().message)};
    Result<Answer> answer = parse_backend_list(text.value(), spec_.weight);
    if (!answer.ok()) return Error{fmt::format("{}: {}", path_, answer.error().message)};
    read_ = stamp;
    return Said{std::move(answer).value(), {}};
  }

  // The directory may be another one than before, or be there only now.
  void watch_directory() {
    if (!events_.is_open()) return;
    const std::string directory = std::filesystem::path(path_).parent_path();
    const int watched = inotify_add_watch(events_.native_handle(), directory.c_str(), kEvents);
    if (watched_ >= 0 && watched != watched_) inotify_rm_watch(events_.native_handle(), watched_);
    watched_ = watched;
  }

  void wait_for_events() {
    events_.async_wait(asio::posix::stream_descriptor::wait_read,
                       [this](const boost::system::error_code &error) {
                         if (error) return;
                         std::array<char, 4096> events{};  // which ones does not matter
                         while (::read(events_.native_handle(), events.data(), events.size()) > 0) {
                         }
                         wake_.raise();
                         wait_for_events();
                       });
  }

  const model::DiscoverySpec &spec_;
  const std::string &path_;
  Signal &wake_;
  asio::posix::stream_descriptor events_;
  int watched_ = -1;
  std::optional<Stamp> read_;  // as it was when it was read last
  bool stopped_ = false;
};

}  // namespace

std::unique_ptr<Source> make_file_source(SourceContext &context, const model::DiscoverySpec &spec,
                                         Signal &wake) {
  return std::make_unique<FileSource>(context, spec, wake);
}

}  // namespace sluice
