#include "tools/sluicectl/present.h"

#include <cstdlib>

#include <spdlog/fmt/fmt.h>

#include "tools/sluicectl/table.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;

std::string text_of(const json &object, const char *field) { return object.at(field).get<std::string>(); }
uint64_t number_of(const json &object, const char *field) { return object.at(field).get<uint64_t>(); }
std::string count_of(const json &object, const char *field) { return grouped(number_of(object, field)); }

std::string joined(const json &list) {
  std::string text;
  for (const json &item : list) {
    if (!text.empty()) text += ',';
    text += item.get<std::string>();
  }
  return text;
}

// "198.51.100.1:80" or "[2001:db8::1]:80".
std::string endpoint(const std::string &address, uint64_t l4_port) {
  const bool ipv6 = address.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", address, l4_port) : fmt::format("{}:{}", address, l4_port);
}

std::string backend_counts(const json &counts) {
  std::string text = fmt::format("{} up", number_of(counts, "up"));
  for (const char *state : {"starting", "failing", "unknown", "down", "ejected", "draining", "drained",
                            "maintenance", "removed"}) {
    if (number_of(counts, state) > 0) text += fmt::format(", {} {}", number_of(counts, state), state);
  }
  return text;
}

std::string dataplane_line(const json &dataplane) {
  if (!dataplane.at("connected").get<bool>()) {
    return text_of(dataplane, "state");
  }
  return fmt::format("{}, engine {}, version {}, snapshot {}", text_of(dataplane, "state"),
                     text_of(dataplane, "engine"), text_of(dataplane, "version"),
                     number_of(dataplane, "snapshot"));
}

// What the dataplane says of itself, indented: its shape is the engine's.
void append_details(const json &value, const std::string &indent, std::string *text) {
  for (const auto &[name, member] : value.items()) {
    const std::string label = value.is_array() ? "-" : name + ":";
    if (member.is_structured() && !member.empty()) {
      *text += indent + label + "\n";
      append_details(member, indent + "  ", text);
    } else {
      *text += indent + label + " " + (member.is_string() ? member.get<std::string>() : member.dump()) + "\n";
    }
  }
}

std::string state_cell(const json &backend) {
  const std::string reason = text_of(backend, "reason");
  return text_of(backend, "state") + (reason.empty() ? "" : ": " + reason);
}

Table backend_table(const json &list) {
  Table table({{"POOL"},
               {"BACKEND"},
               {"ADDRESS"},
               {"FROM"},
               {"WEIGHT", Align::kRight},
               {"SLOTS", Align::kRight},
               {"ACTIVE", Align::kRight},
               {"PACKETS", Align::kRight},
               {"BYTES", Align::kRight},
               {"LAST CHECK"},
               {"STATE"}});
  for (const json &backend : list) {
    table.add({text_of(backend, "pool"), text_of(backend, "name"), text_of(backend, "address"),
               text_of(backend, "source"), count_of(backend, "weight"),
               fmt::format("{:.1f}%", backend.at("slot_share").get<double>() * 100),
               count_of(backend, "active_connections"), count_of(backend, "packets"),
               count_of(backend, "bytes"), text_of(backend, "last_check"), state_cell(backend)});
  }
  return table;
}

bool is_zero_row(const json &row, std::initializer_list<const char *> fields) {
  for (const char *field : fields) {
    if (number_of(row, field) != 0) return false;
  }
  return true;
}

std::string verdict_section(const json &body, Rows rows) {
  Table table({{"VERDICT"}, {"CLASS"}, {"PACKETS", Align::kRight}, {"MEANING"}});
  for (const json &verdict : body.at("verdicts")) {
    if (rows == Rows::kNonZero && is_zero_row(verdict, {"packets"})) continue;
    table.add({text_of(verdict, "name"), text_of(verdict, "class"), count_of(verdict, "packets"),
               text_of(verdict, "help")});
  }
  return table.empty() ? "No packet has been received yet (--all shows every counter).\n" : table.text();
}

std::string worker_section(const json &body) {
  Table table({{"WORKER"},
               {"RECEIVED", Align::kRight},
               {"SENT", Align::kRight},
               {"FROM KERNEL", Align::kRight},
               {"STEERED", Align::kRight},
               {"EVICTED", Align::kRight},
               {"EXPIRED", Align::kRight},
               {"BUSY", Align::kRight}});
  const auto add = [&table](const std::string &name, const json &worker) {
    const uint64_t total = number_of(worker, "total_cycles");
    const double busy =
        total == 0 ? 0 : static_cast<double>(number_of(worker, "busy_cycles")) / static_cast<double>(total);
    table.add({name, count_of(worker, "received_packets"), count_of(worker, "transmitted_packets"),
               count_of(worker, "kernel_packets"), count_of(worker, "steered_packets"),
               count_of(worker, "evicted_entries"), count_of(worker, "expired_entries"),
               fmt::format("{:.0f}%", busy * 100)});
  };
  size_t index = 0;
  for (const json &worker : body.at("workers")) add(std::to_string(index++), worker);
  add("all", body.at("totals"));
  return table.text();
}

std::string service_section(const json &body, Rows rows) {
  Table table({{"SERVICE"}, {"PACKETS", Align::kRight}, {"BYTES", Align::kRight}});
  for (const json &service : body.at("services")) {
    if (rows == Rows::kNonZero && is_zero_row(service, {"packets"})) continue;
    table.add({text_of(service, "name"), count_of(service, "packets"), count_of(service, "bytes")});
  }
  return table.empty() ? "" : fmt::format("\n{}", table.text());
}

std::string backend_section(const json &body, Rows rows) {
  Table table({{"POOL"},
               {"BACKEND"},
               {"PACKETS", Align::kRight},
               {"BYTES", Align::kRight},
               {"OPENED", Align::kRight},
               {"ACTIVE", Align::kRight},
               {"SYN", Align::kRight},
               {"WENT ON", Align::kRight},
               {"SYN AGAIN", Align::kRight},
               {"RST", Align::kRight},
               {"UNREACHABLE", Align::kRight}});
  for (const json &backend : body.at("backends")) {
    if (rows == Rows::kNonZero && is_zero_row(backend, {"packets", "active_connections", "unreachables"}))
      continue;
    table.add({text_of(backend, "pool"), text_of(backend, "name"), count_of(backend, "packets"),
               count_of(backend, "bytes"), count_of(backend, "opened_connections"),
               count_of(backend, "active_connections"), count_of(backend, "tcp_opens"),
               count_of(backend, "tcp_progresses"), count_of(backend, "tcp_repeated_opens"),
               count_of(backend, "tcp_resets"), count_of(backend, "unreachables")});
  }
  return table.empty() ? "" : fmt::format("\n{}", table.text());
}

bool is_in_order(const json &source) {
  const std::string state = text_of(source, "state");
  return state == "ok" || (state == "asked" && text_of(source, "type") == "registration");
}

json troubled_sources(const json &sources) {
  json troubled = json::array();
  for (const json &source : sources) {
    if (!is_in_order(source)) troubled.push_back(source);
  }
  return troubled;
}

// "pool web: dns web.example (srv): failing: server 10.0.0.1 did not answer ..."
std::string source_line(const json &source) {
  return fmt::format("pool {}: {}: {}: {}", text_of(source, "pool"), text_of(source, "source"),
                     text_of(source, "state"), text_of(source, "text"));
}

}  // namespace

std::string present_status(const json &body) {
  const json &config = body.at("config");
  const json &health = body.at("health");
  std::string text;
  const auto line = [&text](const char *label, const std::string &value) {
    text += fmt::format("{:<11}{}\n", label, value);
  };
  line("sluiced", fmt::format("version {}, up {}", text_of(body, "version"),
                              span_text(body.at("uptime_s").get<int64_t>())));
  if (const auto step = body.at("clock_step_s").get<int64_t>(); step != 0) {
    line("clock",
         fmt::format("the host's clock was set {} by {} since then; deadlines and graces go on by the "
                     "one of before",
                     step > 0 ? "forward" : "back", span_text(std::abs(step))));
  }
  line("config", fmt::format("{}, loaded {}", text_of(config, "path"),
                             time_text(config.at("loaded_unix_s").get<int64_t>())));
  if (!text_of(config, "problem").empty()) {
    line("", "the last reload was refused, the configuration of before is in force:");
    text += text_of(config, "problem") + "\n";
  }
  line("dataplane", dataplane_line(body.at("dataplane")));
  if (config.at("differs_from_file").get<bool>())
    line("", "what is in force was applied by the API, and not in that file when it was read");
  line("revision", fmt::format("{}{}", number_of(body, "revision"),
                               body.at("pending").get<bool>() ? ", waits for the dataplane" : ""));
  if (const json &waits = body.at("confirmation"); !waits.is_null()) {
    line("", fmt::format("revision {0} goes in {1} unless somebody says: sluicectl confirm {0}",
                         number_of(waits, "revision"), span_text(waits.at("left_s").get<int64_t>())));
  }
  line("services", fmt::format("{} with {} pools", number_of(body, "services"), number_of(body, "pools")));
  line("backends", backend_counts(body.at("backends")));
  line("health",
       fmt::format(
           "{} backends checked; {} checks run, {} wait, at most {} at once; the latest began {:.0f} ms "
           "late",
           number_of(health, "targets"), number_of(health, "running"), number_of(health, "waiting"),
           number_of(health, "max_concurrent"), health.at("worst_lateness_ms").get<double>()));
  const json &sources = body.at("discovery");
  const json troubled = troubled_sources(sources);
  if (!sources.empty())
    line("discovery", fmt::format("{} sources, {} of them not in order", sources.size(), troubled.size()));
  for (const json &source : troubled) line("", source_line(source));
  const json &details = body.at("dataplane").at("details");
  if (details.is_structured() && !details.empty()) {
    text += "\nThe dataplane says:\n";
    append_details(details, "  ", &text);
  }
  return text;
}

std::string present_services(const json &body) {
  Table table({{"SERVICE"},
               {"VIPS"},
               {"PROTOCOL"},
               {"PORTS"},
               {"POOL"},
               {"SCHEDULER"},
               {"PACKETS", Align::kRight},
               {"BYTES", Align::kRight},
               {"BACKENDS"}});
  const auto backends_cell = [](const json &service) {
    const json &quorum = service.at("quorum");
    const bool below = !quorum.is_null() && quorum.at("below").get<bool>();
    return backend_counts(service.at("backends")) + (below ? "; " + text_of(quorum, "text") : "");
  };
  for (const json &service : body.at("services")) {
    table.add({text_of(service, "name"), joined(service.at("vips")), text_of(service, "protocol"),
               joined(service.at("ports")), text_of(service, "pool"), text_of(service, "scheduler"),
               count_of(service, "packets"), count_of(service, "bytes"), backends_cell(service)});
  }
  return table.empty() ? "No services are configured.\n" : table.text();
}

std::string present_service(const json &body) {
  const json &timeouts = body.at("timeouts_s");
  std::string text = present_services({{"services", json::array({body})}});
  text += fmt::format("\nTimeouts: embryonic {} s, established {} s, closing {} s, udp {} s\n\n",
                      number_of(timeouts, "embryonic"), number_of(timeouts, "established"),
                      number_of(timeouts, "closing"), number_of(timeouts, "udp"));
  if (const json &quorum = body.at("quorum"); !quorum.is_null()) {
    text += fmt::format(
        "Quorum: {} of {} backends take new connections; below {} it is lost, from {} on it is "
        "met again{}{}\n\n",
        number_of(quorum, "serving"), number_of(quorum, "wanted"), number_of(quorum, "min"),
        number_of(quorum, "recover"), quorum.at("below").get<bool>() ? ". Now: " : "",
        text_of(quorum, "text"));
  }
  return text + backend_table(body.at("members")).text();
}

std::string present_backends(const json &body) {
  const Table table = backend_table(body.at("backends"));
  return table.empty() ? "No backends are configured.\n" : table.text();
}

std::string present_connections(const json &body) {
  Table table({{"PROTOCOL"},
               {"CLIENT"},
               {"VIP"},
               {"SERVICE"},
               {"BACKEND"},
               {"STATE"},
               {"IDLE", Align::kRight},
               {"TIMEOUT", Align::kRight}});
  for (const json &record : body.at("connections")) {
    table.add({text_of(record, "protocol"),
               endpoint(text_of(record, "client"), number_of(record, "client_port")),
               endpoint(text_of(record, "vip"), number_of(record, "vip_port")), text_of(record, "service"),
               text_of(record, "pool") + "/" + text_of(record, "backend"), text_of(record, "state"),
               fmt::format("{}s", number_of(record, "idle_s")),
               fmt::format("{}s", number_of(record, "timeout_s"))});
  }
  const uint64_t listed = body.at("connections").size();
  const uint64_t matched = number_of(body, "matched");
  if (matched == 0) return "No connections.\n";
  std::string text = listed == 0 ? "" : table.text();
  if (listed < matched) {
    text += fmt::format("{} of {} connections; --limit shows more\n", grouped(listed), grouped(matched));
  }
  return text;
}

std::string present_counters(const json &body, Rows rows) {
  return verdict_section(body, rows) + "\n" + worker_section(body) + service_section(body, rows) +
         backend_section(body, rows);
}

std::string present_discovery(const json &body) {
  Table table({{"POOL"}, {"SOURCE"}, {"STATE"}, {"BACKENDS", Align::kRight}, {"WHAT IT SAYS"}});
  std::string skipped;
  for (const json &source : body.at("sources")) {
    table.add({text_of(source, "pool"), text_of(source, "source"), text_of(source, "state"),
               count_of(source, "backends"), text_of(source, "text")});
    for (const json &entry : source.at("skipped"))
      skipped += fmt::format("  pool {}: {}\n", text_of(source, "pool"), entry.get<std::string>());
  }
  if (table.empty()) return "No pool has a source of backends.\n";
  return table.text() + (skipped.empty() ? "" : "\nNot used:\n" + skipped);
}

std::string present_valid_config(const json &body) {
  return fmt::format("valid: {} services, {} pools, {} backends\n", number_of(body, "services"),
                     number_of(body, "pools"), number_of(body, "backends"));
}

std::string present_problem(const std::string &body, const std::string &fallback) {
  const json problem = json::parse(body, nullptr, false);
  if (!problem.is_object() || !problem.contains("detail")) return fallback;
  std::string text = problem.at("detail").get<std::string>();
  if (!problem.contains("errors")) return text;
  for (const json &error : problem.at("errors")) {
    text += '\n';
    text += text_of(error, "file");
    if (number_of(error, "line") > 0) {
      text += fmt::format(":{}:{}", number_of(error, "line"), number_of(error, "column"));
    }
    if (!text_of(error, "field").empty()) text += ": " + text_of(error, "field");
    text += ": " + text_of(error, "message");
  }
  return text;
}

}  // namespace sluice::ctl
