#include "tools/sluicectl/present_changes.h"

#include <spdlog/fmt/fmt.h>

#include "tools/sluicectl/table.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;

uint64_t number_of(const json &object, const char *name) { return object.at(name).get<uint64_t>(); }
std::string text_of(const json &object, const char *name) { return object.at(name).get<std::string>(); }

std::string value_text(const json &value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string change_line(const json &change) {
  if (change.contains("more")) return fmt::format("  and {} more\n", number_of(change, "more"));
  const std::string path = text_of(change, "path");
  if (!change.contains("old")) return fmt::format("+ {}: {}\n", path, value_text(change.at("new")));
  if (!change.contains("new")) return fmt::format("- {}: {}\n", path, value_text(change.at("old")));
  return fmt::format("~ {}: {} -> {}\n", path, value_text(change.at("old")), value_text(change.at("new")));
}

std::string changes_text(const json &changes) {
  if (!changes.is_array()) return "";
  if (changes.empty()) return "  (no difference but comments, order or layout)\n";
  std::string text;
  for (const json &change : changes) text += change_line(change);
  return text;
}

// "12 of 340 (3.5%)".
std::string part_text(uint64_t part, uint64_t whole) {
  if (part == 0) return "0";
  return fmt::format("{} of {} ({:.3g}%)", grouped(part), grouped(whole),
                     whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string forecast_text(const json &forecast) {
  Table table({{"  SERVICE"},
               {"SLOTS MOVED", Align::kRight},
               {"CONNECTIONS", Align::kRight},
               {"MOVE", Align::kRight},
               {"BREAK", Align::kRight},
               {"END AT DEADLINE", Align::kRight}});
  for (const json &service : forecast.at("services")) {
    const json &connections = service.at("connections");
    const bool is_known = !connections.is_null();
    const uint64_t live = is_known ? number_of(connections, "live") : 0;
    const auto count = [&](const char *name) {
      return is_known ? part_text(number_of(connections, name), live) : std::string("?");
    };
    const bool ends = number_of(service, "slots") == 0;
    table.add({"  " + text_of(service, "service") +
                   (service.at("goes").get<bool>() ? " (goes)"
                    : ends                         ? " (nobody serves)"
                                                   : ""),
               fmt::format("{:.3g}%", 100 * service.at("moved_share").get<double>()),
               is_known ? grouped(live) : "?", count("moved"), count("broken"), count("until_deadline")});
  }
  const uint64_t others = number_of(forecast, "unaffected_services");
  if (table.empty()) return fmt::format("  nothing moves ({} service{})\n", others, others == 1 ? "" : "s");
  return table.text() + (others == 0 ? "" : fmt::format("  {} others: nothing moves\n", others));
}

}  // namespace

std::string present_plan(const json &plan) {
  std::string text = "At once:\n" + forecast_text(plan.at("at_once"));
  if (!plan.at("once_up").is_null()) {
    text += "When backends that are not known yet are up, and slow starts are over:\n" +
            forecast_text(plan.at("once_up"));
  }
  return text;
}

std::string present_changes(const json &body) { return changes_text(body.at("changes")); }

std::string present_change(const json &body) {
  const std::string result = text_of(body, "result");
  if (result == "planned") {
    const json &plan = body.at("plan");
    return changes_text(body.at("changes")) + (plan.is_null() ? "" : present_plan(plan)) +
           text_of(body, "message") + "\n";
  }
  std::string text = result + ": " + text_of(body, "message") + "\n";
  if (result == "applied") {
    const uint64_t revision = number_of(body, "revision");
    text = revision == 0 ? fmt::format("done: {}\n", text_of(body, "message"))
                         : fmt::format("done: {}, revision {}\n", text_of(body, "message"), revision);
  }
  return text;
}

std::string present_revisions(const json &body) {
  Table table({{"REVISION", Align::kRight},
               {"TIME"},
               {"AUTHOR"},
               {"ACTION"},
               {"SUBJECT"},
               {"SNAPSHOT", Align::kRight},
               {"CHANGES", Align::kRight},
               {"MESSAGE"}});
  for (const json &revision : body.at("revisions")) {
    const uint64_t snapshot = number_of(revision, "snapshot");
    table.add({std::to_string(number_of(revision, "revision")),
               time_text(static_cast<int64_t>(number_of(revision, "at_unix_ms") / 1000)),
               text_of(revision, "author"), text_of(revision, "action"), text_of(revision, "subject"),
               snapshot == 0 ? "-" : std::to_string(snapshot), std::to_string(number_of(revision, "changes")),
               text_of(revision, "message")});
  }
  if (table.empty()) return "There are no revisions.\n";
  return table.text() + (body.contains("next_cursor") ? "and earlier ones; --limit lists more\n" : "");
}

}  // namespace sluice::ctl
