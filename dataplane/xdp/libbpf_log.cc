#include "dataplane/xdp/libbpf_log.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace sluice {
namespace {

thread_local std::string last_refusal;  // NOLINT: libbpf's callback has no argument of ours

std::string formatted(const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (length <= 0) return "";
  std::string text(static_cast<size_t>(length) + 1, '\0');
  std::vsnprintf(text.data(), text.size(), format, arguments);
  text.pop_back();
  return text;
}

int log_libbpf(libbpf_print_level level, const char *format, va_list arguments) {
  constexpr size_t kMostLogged = 8192;
  const bool logged = spdlog::should_log(spdlog::level::debug);
  if (!logged && level != LIBBPF_WARN) return 0;
  const std::string text = formatted(format, arguments);
  std::string refusal = refusal_in(text);
  if (!refusal.empty()) last_refusal = std::move(refusal);
  if (logged) {
    const size_t from = text.size() > kMostLogged ? text.size() - kMostLogged : 0;
    spdlog::debug("libbpf: {}{}", from > 0 ? "..." : "", std::string_view(text).substr(from));
  }
  return 0;
}

}  // namespace

void listen_to_libbpf() { libbpf_set_print(log_libbpf); }

std::string take_refusal() { return std::exchange(last_refusal, ""); }

std::string refusal_in(std::string_view message) {
  constexpr std::string_view kProgram = "prog '";
  constexpr std::string_view kEnd = "-- END PROG LOAD LOG --";
  constexpr std::string_view kStatistics = "processed ";
  const size_t program = message.find(kProgram);
  size_t end = message.rfind(kEnd);
  if (program == std::string_view::npos || end == std::string_view::npos) return "";
  const std::string_view after = message.substr(program + kProgram.size());
  const std::string_view name = after.substr(0, after.find('\''));
  // The last line that is no statistics says what is wrong.
  while (end > 0) {
    const size_t last = message.find_last_not_of('\n', end - 1);
    if (last == std::string_view::npos) return "";
    const size_t before = message.rfind('\n', last);
    if (before == std::string_view::npos) return "";
    const std::string_view line = message.substr(before + 1, last - before);
    if (!line.starts_with(kStatistics)) return fmt::format("{}: \"{}\"", name, line);
    end = before;
  }
  return "";
}

}  // namespace sluice
