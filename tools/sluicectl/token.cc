#include "tools/sluicectl/token.h"

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "controlplane/api/tokens.h"

namespace sluice::ctl {

namespace {

constexpr size_t kMaxNameLength = 63;

// As the configuration's names are: it becomes a name of the tokens file.
bool is_name(const std::string &text) {
  const auto is_letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && text.size() <= kMaxNameLength && is_letter_or_digit(text[0]) &&
         std::ranges::all_of(
             text, [&](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

std::string moment_text(int64_t unix_s) {
  const auto time = static_cast<time_t>(unix_s);
  tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Result<std::string> services_text(const std::string &list) {
  std::istringstream stream(list);
  std::string text;
  for (std::string name; std::getline(stream, name, ',');) {
    if (!is_name(name)) return Error{"--services: \"" + name + "\" is no service's name"};
    text += (text.empty() ? "" : ", ") + name;
  }
  return ", services: [" + text + "]";
}

Result<std::string> line_of(const TokenOptions &options, const std::string &token, int64_t now_unix_s) {
  if (!is_name(options.name))
    return Error{"--name: \"" + options.name +
                 "\" is no name; allowed: 1 to 63 letters, digits, \".\", \"_\" or \"-\""};
  std::string line = "- {name: " + options.name + ", role: " + options.role;
  if (!options.services.empty()) {
    if (options.role == "admin") return Error{"--services has no meaning with --role admin"};
    const Result<std::string> services = services_text(options.services);
    if (!services.ok()) return services.error();
    line += services.value();
  }
  if (options.lifetime_s != 0) line += ", expires: \"" + moment_text(now_unix_s + options.lifetime_s) + "\"";
  return line + ", sha256: " + api::hash_text(api::hash_token(token)) + "}\n";
}

// In one write under a lock, so that two that are made at once both stand there.
Status append_line(const std::string &file, const std::string &line) {
  const auto failed = [&] {
    return Error{"cannot write " + file + ": " + std::generic_category().message(errno)};
  };
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0) return failed();
  ::flock(fd, LOCK_EX);
  const ssize_t written = ::write(fd, line.data(), line.size());
  Status done = written == static_cast<ssize_t>(line.size()) ? Status(Done{}) : Status(failed());
  ::close(fd);
  return done;
}

}  // namespace

int create_token(const Context &context, const TokenOptions &options, int64_t now_unix_s) {
  const Result<std::string> token = api::make_token();
  if (!token.ok()) return report_failure(context, kExitFailure, token.error().message);
  const Result<std::string> line = line_of(options, token.value(), now_unix_s);
  if (!line.ok()) return report_failure(context, kExitUsage, line.error().message);
  if (!options.file.empty()) {
    const Status written = append_line(options.file, line.value());
    if (!written.ok()) return report_failure(context, kExitFailure, written.error().message);
    context.err << "added to " << options.file << "; sluicectl reload lets it in\n";
  } else {
    context.err << "Add this line to the file that api.tokens_file names, and reload:\n" << line.value();
  }
  if (context.output == OutputFormat::kJson) {
    context.out << nlohmann::json{{"token", token.value()}, {"line", line.value()}}.dump(2) << "\n";
  } else {
    context.out << token.value() << "\n";
  }
  return kExitOk;
}

}  // namespace sluice::ctl
