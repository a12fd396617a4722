#include "controlplane/api/audit_log.h"

#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/config/token_file.h"

namespace sluice::api {

namespace {

using nlohmann::ordered_json;

std::string system_error_text() { return std::generic_category().message(errno); }

FileDescriptor open_file(const std::filesystem::path &path) {
  return FileDescriptor(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
}

// "2026-11-22T00:32:40.123Z"
std::string now_text() {
  using namespace std::chrono;
  const auto ms = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  std::string text = format_moment(ms / 1000);
  text.pop_back();
  return fmt::format("{}.{:03}Z", text, ms % 1000);
}

}  // namespace

Result<AuditLog> AuditLog::open(AuditLogOptions options) {
  FileDescriptor file = open_file(options.path);
  struct stat status {};
  if (!file.valid() || fstat(file.get(), &status) != 0)
    return Error{fmt::format("audit log {}: {}", options.path.native(), system_error_text())};
  if (!S_ISREG(status.st_mode))
    return Error{fmt::format("audit log {}: it is no regular file", options.path.native())};
  return AuditLog(std::move(options), std::move(file), static_cast<uint64_t>(status.st_size));
}

void AuditLog::append(const ordered_json &entry) {
  ordered_json line = {{"time", now_text()}};
  line.update(entry);
  if (lost_ > 0) line["lost_before"] = lost_;
  const std::string text = line.dump(-1, ' ', true, ordered_json::error_handler_t::replace) + "\n";
  if (bytes_ > 0 && bytes_ + text.size() > options_.max_bytes) rotate();
  const ssize_t written = ::write(file_.get(), text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) {
    bytes_ += text.size();
    lost_ = 0;
    return;
  }
  if (lost_++ == 0)
    spdlog::error("audit log {}: cannot be written: {}", options_.path.native(), system_error_text());
  // No half line before the next one.
  if (written > 0 && ::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0)
    bytes_ += static_cast<uint64_t>(written);
}

void AuditLog::rotate() {
  const auto numbered = [this](int number) {
    return number == 0 ? options_.path.native() : fmt::format("{}.{}", options_.path.native(), number);
  };
  // There before anything is renamed: or each line would push out a file of before.
  const std::filesystem::path fresh = options_.path.native() + ".next";
  FileDescriptor next = open_file(fresh);
  bytes_ = 0;  // of a file that cannot be begun too: the next try comes after as many again
  if (!next.valid()) {
    spdlog::error("audit log {}: cannot begin a new file: {}", options_.path.native(), system_error_text());
    return;
  }
  for (int i = options_.kept_files; i > 0; i--) ::rename(numbered(i - 1).c_str(), numbered(i).c_str());
  ::rename(fresh.c_str(), options_.path.c_str());
  file_ = std::move(next);
}

}  // namespace sluice::api
