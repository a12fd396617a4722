#include "controlplane/config/command_reader.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {
namespace {

constexpr size_t kMaxArguments = 64;
constexpr size_t kMaxArgumentLength = 4096;
constexpr size_t kMaxReadable = 16;
constexpr size_t kMaxFilePathLength = 4095;

// What the sandbox shows to every command; the others are links into /usr.
constexpr std::array<std::string_view, 5> kShownAlways = {"/usr", "/bin", "/sbin", "/lib", "/lib64"};
// What the sandbox has of its own.
constexpr std::array<std::string_view, 3> kOwnOfSandbox = {"/proc", "/dev", "/sys"};

bool is_at_or_below(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

// Absolute, without "//", "/./", "/../" and a "/" at its end.
bool is_plain_path(std::string_view path) {
  if (path.size() < 2 || path[0] != '/' || path.ends_with('/')) return false;
  for (size_t begin = 1; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

bool is_placeholder_word(std::string_view text) {
  const auto is_allowed = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  return !text.empty() && std::ranges::all_of(text, is_allowed);
}

// The first "{word}" that stands for nothing: most likely a slip. Other braces are what they are.
std::string_view unknown_placeholder(std::string_view argument) {
  for (size_t begin = argument.find('{'); begin != std::string_view::npos;
       begin = argument.find('{', begin + 1)) {
    const size_t end = argument.find('}', begin);
    if (end == std::string_view::npos) break;
    const std::string_view whole = argument.substr(begin, end - begin + 1);
    if (!is_placeholder_word(whole.substr(1, whole.size() - 2))) continue;
    if (!std::ranges::count(model::kCommandPlaceholders, whole)) return whole;
  }
  return {};
}

class CommandReader {
 public:
  CommandReader(const Field &health, FieldReader &reader) : health_(health), reader_(reader) {}

  model::ExecCheck read() {
    model::ExecCheck check;
    if (const auto readable = FieldReader::find(health_, "readable")) read_readable(*readable, &check);
    if (const auto command = reader_.require(health_, "command")) read_command(*command, &check);
    return check;
  }

 private:
  void read_readable(const Field &field, model::ExecCheck *check) {
    if (!is_short_list(field, 0, kMaxReadable)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) {
      const Field item = field.item(i);
      const auto path = read_path(item);
      if (!path) continue;
      const bool taken = std::ranges::any_of(
          kOwnOfSandbox, [&](std::string_view own) { return is_at_or_below(*path, own); });
      if (taken) {
        reader_.error(item, in_quotes(*path) +
                                " cannot be read by a command: /proc, /dev and /sys are its "
                                "sandbox's own");
        continue;
      }
      check->readable.push_back(*path);
    }
  }

  void read_command(const Field &field, model::ExecCheck *check) {
    if (!is_short_list(field, 1, kMaxArguments)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) {
      const Field item = field.item(i);
      const auto argument = i == 0 ? read_path(item) : read_argument(item);
      if (argument) check->command.push_back(*argument);
      if (argument && i == 0) refuse_hidden(item, *argument, check->readable);
    }
  }

  std::optional<std::string> read_path(const Field &field) {
    auto path = reader_.word(field, kMaxFilePathLength);
    if (!path || is_plain_path(*path)) return path;
    reader_.error(field, in_quotes(*path) +
                             " is no absolute path; allowed: what begins with \"/\", without \"//\", \".\" "
                             "and \"..\"");
    return std::nullopt;
  }

  std::optional<std::string> read_argument(const Field &field) {
    const auto text = reader_.scalar(field);
    if (!text) return std::nullopt;
    if (text->size() > kMaxArgumentLength || text->find('\0') != std::string_view::npos) {
      reader_.error(field, in_quotes(*text) + " is no argument; allowed: up to " +
                               std::to_string(kMaxArgumentLength) + " bytes, none of them 0");
      return std::nullopt;
    }
    if (const auto unknown = unknown_placeholder(*text); !unknown.empty()) {
      std::string allowed;
      for (const auto &known : model::kCommandPlaceholders)
        allowed += (allowed.empty() ? "" : ", ") + std::string(known);
      reader_.error(field, in_quotes(unknown) + " stands for nothing; allowed: " + allowed);
      return std::nullopt;
    }
    return std::string(*text);
  }

  // Whether it is there is seen when it is run: perhaps on another host than this one.
  void refuse_hidden(const Field &field, const std::string &path, const std::vector<std::string> &readable) {
    const auto holds = [&](std::string_view shown) { return is_at_or_below(path, shown); };
    if (std::ranges::any_of(kShownAlways, holds) || std::ranges::any_of(readable, holds)) return;
    reader_.error(field, in_quotes(path) +
                             " is not in the command's sandbox; put it below /usr, or add its "
                             "directory to readable");
  }

  bool is_short_list(const Field &field, size_t least, size_t most) {
    if (!reader_.is_list(field)) return false;
    const size_t size = field.node->items.size();
    if (size >= least && size <= most) return true;
    reader_.error(field, "has " + std::to_string(size) + " elements; allowed: " + std::to_string(least) +
                             " to " + std::to_string(most));
    return false;
  }

  const Field &health_;
  FieldReader &reader_;
};

}  // namespace

model::ExecCheck read_command_check(const Field &health, FieldReader &reader) {
  return CommandReader(health, reader).read();
}

}  // namespace sluice
