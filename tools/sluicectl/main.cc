#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "controlplane/api/target.h"
#include "tools/sluicectl/commands.h"
#include "tools/sluicectl/doctor/doctor.h"
#include "tools/sluicectl/exit_codes.h"
#include "tools/sluicectl/explain.h"
#include "tools/sluicectl/present.h"
#include "tools/sluicectl/present_changes.h"
#include "tools/sluicectl/token.h"
#include "tools/sluicectl/wait.h"

namespace sluice::ctl {
namespace {

constexpr const char *kExitCodeHelp =
    "Exit codes: 0 done, 1 failure, 2 wrong usage, 3 no such service, pool, backend or revision,\n"
    "4 sluiced is unreachable, 5 invalid configuration, 6 refused because of what is there: another\n"
    "revision, a confirmation that is waited for, or more would move than max_moved allows;\n"
    "7 taken over, but not in force: it waits for the dataplane.\n"
    "sluicectl COMMAND --help shows examples.";

// How a change is to be made.
struct ChangeTerms {
  bool dry_run = false;
  bool force = false;
  std::string message;
  std::string confirm;      // in seconds; empty: it stays
  std::string if_revision;  // empty: whatever is there

  std::vector<Parameter> parameters() const {
    return {{"dry_run", dry_run ? "true" : ""},
            {"force", force ? "true" : ""},
            {"message", message},
            {"confirm", confirm},
            {"if_revision", if_revision}};
  }
};

// What the command line says.
struct Arguments {
  Endpoint endpoint;
  std::string token_file;
  TokenOptions token;
  ExplainOptions explain;
  std::string output = "table";
  std::string service;
  std::string pool;
  std::string backend;
  std::string file;
  std::vector<Parameter> connections;
  std::string deadline;  // in seconds, or "none"; empty: not given
  std::string address;
  std::string ttl;
  std::string weight;
  std::string revision;  // a number
  std::string against;   // another one
  std::string limit;
  ChangeTerms terms;
  bool wait = false;
  bool end = false;
  Rows rows = Rows::kNonZero;
};

Command services_command(const Arguments &arguments) {
  if (arguments.service.empty()) return {.target = "/v1/services", .present = present_services};
  return {.target = "/v1/services/" + api::percent_encode(arguments.service), .present = present_service};
}

Command counters_command(const Arguments &arguments) {
  const Rows rows = arguments.rows;
  return {.target = "/v1/counters",
          .present = [rows](const nlohmann::json &body) { return present_counters(body, rows); }};
}

// All of `input`; nothing when reading failed.
std::optional<std::string> read_all(std::istream &input) {
  std::string text;
  std::array<char, 65536> chunk{};
  while (input) {
    input.read(chunk.data(), chunk.size());
    text.append(chunk.data(), static_cast<size_t>(input.gcount()));
  }
  return input.bad() ? std::nullopt : std::optional(std::move(text));
}

Result<std::string> read_document(const std::string &file) {
  std::ifstream opened;
  if (file != "-") opened.open(file, std::ios::binary);
  std::optional<std::string> text;
  if (file == "-" || opened.is_open()) text = read_all(file == "-" ? std::cin : opened);
  if (text) return std::move(*text);
  return Error{"cannot read " + file + "; give the path of a configuration, or - for standard input"};
}

Result<Command> check_config_command(const std::string &file) {
  Result<std::string> text = read_document(file);
  if (!text.ok()) return text.error();
  return Command{.method = "POST",
                 .target = with_parameters("/v1/check-config", {{"file", file}}),
                 .body = std::move(text).value(),
                 .present = present_valid_config};
}

Result<Command> apply_command(const Arguments &arguments) {
  Result<std::string> text = read_document(arguments.file);
  if (!text.ok()) return text.error();
  std::vector<Parameter> parameters = arguments.terms.parameters();
  parameters.push_back({"file", arguments.file});
  return Command{.method = "PUT",
                 .target = with_parameters("/v1/configuration", parameters),
                 .body = std::move(text).value(),
                 .present = present_change};
}

// Between a file and what is in force, or between two revisions.
Result<Command> diff_command(const Arguments &arguments) {
  if (arguments.file.empty() == arguments.revision.empty())
    return Error{"give either a file (-f) or a revision, or two; sluicectl revisions lists them"};
  if (!arguments.revision.empty()) {
    const bool has_two = !arguments.against.empty();
    const std::string &number = has_two ? arguments.against : arguments.revision;
    return Command{.target = with_parameters("/v1/revisions/" + api::percent_encode(number),
                                             {{"against", has_two ? arguments.revision : ""}}),
                   .present = present_changes};
  }
  Arguments dry = arguments;
  dry.terms.dry_run = true;
  Result<Command> command = apply_command(dry);
  if (command.ok()) {
    command.value().present = [](const nlohmann::json &body) {
      return body.at("changes").is_null() ? body.at("message").get<std::string>() + "\n"
                                          : present_changes(body);
    };
  }
  return command;
}

// "rollback" and "confirm".
Command revision_command(const Arguments &arguments, const std::string &action) {
  return {.method = "POST",
          .target = with_parameters("/v1/revisions/" + api::percent_encode(arguments.revision) + "/" + action,
                                    arguments.terms.parameters()),
          .present = present_change};
}

Result<Command> weight_command(const Arguments &arguments) {
  std::string path = backend_target(arguments.backend, "");
  if (path.empty())
    return Error{"\"" + arguments.backend + "\" is no POOL/BACKEND; sluicectl backends lists them"};
  path.pop_back();
  const bool is_number = !arguments.weight.empty() && arguments.weight.size() <= 9 &&
                         arguments.weight.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number && arguments.weight != "configured")
    return Error{"\"" + arguments.weight + "\" is neither a number from 0 to 1000 nor \"configured\""};
  const nlohmann::json weight = is_number ? nlohmann::json(std::stoul(arguments.weight)) : nlohmann::json();
  return Command{.method = "PATCH",
                 .target = with_parameters(path, arguments.terms.parameters()),
                 .body = nlohmann::json{{"weight", weight}}.dump(),
                 .present = present_change};
}

// "drain", "undrain" and "maintenance".
Result<Command> order_command(const Arguments &arguments, const std::string &action) {
  const std::string path = backend_target(arguments.backend, action);
  if (path.empty())
    return Error{"\"" + arguments.backend + "\" is no POOL/BACKEND; sluicectl backends lists them"};
  if (arguments.end && (!arguments.deadline.empty() || arguments.wait))
    return Error{"--end takes neither --deadline nor --wait"};
  std::vector<Parameter> parameters = arguments.terms.parameters();
  parameters.push_back({"deadline", arguments.deadline});
  return Command{.method = arguments.end ? "DELETE" : "POST",
                 .target = with_parameters(path, parameters),
                 .present = present_change};
}

// "register" and "deregister".
Result<Command> registration_command(const Arguments &arguments, bool comes) {
  const std::string target = registration_target(arguments.backend);
  if (target.empty()) return Error{"\"" + arguments.backend + "\" is no POOL/NAME"};
  if (!comes) return Command{.method = "DELETE", .target = target, .present = present_change};
  nlohmann::json body = {{"address", arguments.address}, {"ttl", arguments.ttl}};
  if (!arguments.weight.empty()) body["weight"] = arguments.weight;
  return Command{.method = "PUT",
                 .target = target,
                 .body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                 .present = present_change};
}

// Whether a command line that may be wrong asks for JSON.
bool asks_for_json(std::span<const char *const> arguments) {
  for (size_t i = 0; i < arguments.size(); i++) {
    const std::string_view word = arguments[i];
    if (word == "-ojson" || word == "--output=json") return true;
    const bool option = word == "-o" || word == "--output";
    if (option && i + 1 < arguments.size() && std::string_view(arguments[i + 1]) == "json") return true;
  }
  return false;
}

// The application with everything it understands. `chosen` becomes the command's name.
class CommandLine {
 public:
  CommandLine();
  int run(int argc, const char *const *argv);

 private:
  CLI::App *add(const std::string &name, const std::string &help, const std::string &examples);
  void add_connections();
  void add_orders();
  void add_terms(CLI::App *command);
  void add_configuration();
  void add_discovery();
  void add_endpoint();
  void add_token();
  void add_explain();
  Status finish_endpoint();
  Result<Command> command() const;

  CLI::App app_{"Asks and tells sluiced, Sluice's control plane, over its REST API."};
  Arguments arguments_;
  std::string connection_filter_[7];
  bool all_ = false;
  bool expired_ = false;
  std::string doctor_root_ = "/";
  std::string chosen_;
};

CLI::App *CommandLine::add(const std::string &name, const std::string &help, const std::string &examples) {
  CLI::App *command = app_.add_subcommand(name, help);
  command->footer("Examples:\n" + examples);
  command->fallthrough();
  command->callback([this, name] { chosen_ = name; });
  return command;
}

constexpr const char *kConnectionParameters[] = {"service", "pool", "backend", "client",
                                                 "vip",     "port", "limit"};
constexpr const char *kConnectionHelp[] = {"of this service",
                                           "of backends of this pool",
                                           "of this backend, POOL/BACKEND (or of all backends of this name)",
                                           "from this client address",
                                           "to this virtual address",
                                           "to this port of the virtual address",
                                           "list at most so many (default 1000)"};

void CommandLine::add_connections() {
  CLI::App *connections = add("connections", "the dataplane's connection tables",
                              "  sluicectl connections --service web --limit 20\n"
                              "  sluicectl connections --client 2001:db8::7\n"
                              "  sluicectl -o json connections --backend web/b1");
  for (size_t i = 0; i < std::size(kConnectionParameters); i++) {
    connections->add_option(std::string("--") + kConnectionParameters[i], connection_filter_[i],
                            kConnectionHelp[i]);
  }
  connections->add_flag("--expired", expired_, "also entries that have outlived their timeout");
}

// Changes "10m" to "600", and leaves "none". The fault, if it is neither.
std::string deadline_in_seconds(std::string &text) {
  if (text == "none") return "";
  const CLI::AsNumberWithUnit seconds(std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}},
                                      CLI::AsNumberWithUnit::UNIT_REQUIRED, "DURATION");
  if (std::string fault = seconds(text); !fault.empty()) return fault;
  return CLI::Range(int64_t{1}, int64_t{30 * 24 * 3600})(text);
}

// Of every change that can be planned.
void CommandLine::add_terms(CLI::App *command) {
  ChangeTerms &terms = arguments_.terms;
  command->add_flag("--dry-run", terms.dry_run,
                    "show what would move or break, and change nothing: sluicectl plan");
  command->add_flag("--force", terms.force, "also when it moves more than the configuration's max_moved");
  command->add_option("-m,--message", terms.message, "why, for the list of revisions");
  command->add_option("--if-revision", terms.if_revision,
                      "only while this is the last revision; else exit code 6");
}

void CommandLine::add_configuration() {
  CLI::App *apply = add("apply", "make a file's text the configuration, and keep it over restarts",
                        "  sluicectl apply -f new.yaml -m 'new pool for jobs'\n"
                        "  sluicectl apply -f new.yaml --confirm 5m && ./try-it && sluicectl confirm 12\n"
                        "The file that sluiced was started with is not changed; a reload takes it again.");
  CLI::App *plan =
      add("plan", "what a change would move or break; it is not made",
          "  sluicectl plan -f new.yaml\n  sluicectl plan drain web/b1 --deadline 10m\n"
          "  sluicectl plan weight web/b1 50\n  sluicectl plan rollback 7\n  sluicectl plan reload");
  CLI::App *diff = add("diff", "what differs: a file and what is in force, or two revisions",
                       "  sluicectl diff -f new.yaml\n  sluicectl diff 7\n  sluicectl diff 7 12");
  for (CLI::App *command : {apply, plan, diff}) {
    CLI::Option *file = command->add_option("-f,--file", arguments_.file, "the file; - reads standard input");
    if (command != diff) file->required();
  }
  diff->add_option("REVISION", arguments_.revision, "what this one changed");
  diff->add_option("OTHER", arguments_.against, "what differs in this later one");
  add("revisions", "the changes that were made: by whom, when, and which", "  sluicectl revisions --limit 10")
      ->add_option("--limit", arguments_.limit, "list at most so many (default 100)");
  CLI::App *rollback = add("rollback", "make the configuration of an earlier revision the one again",
                           "  sluicectl rollback 7\nDrains, maintenance and weights stay as they are.");
  CLI::App *confirm =
      add("confirm", "keep a configuration that was applied with --confirm", "  sluicectl confirm 12");
  for (CLI::App *command : {rollback, confirm})
    command->add_option("REVISION", arguments_.revision, "its number")->required();
  CLI::App *reload = add("reload", "read the configuration file again; a bad one changes nothing",
                         "  sluicectl reload\n  sluicectl plan reload");
  for (CLI::App *command : {apply, rollback, reload}) {
    add_terms(command);
    command
        ->add_option("--confirm", arguments_.terms.confirm,
                     "go back after so long (90s, 5m) unless somebody says sluicectl confirm")
        ->transform(CLI::Validator(deadline_in_seconds, "DURATION"));
  }
}

void CommandLine::add_orders() {
  CLI::App *weight =
      add("weight", "another weight for a backend, until it is given back to the configuration",
          "  sluicectl weight web/b1 50\n  sluicectl weight web/b1 configured");
  weight->add_option("BACKEND", arguments_.backend, "POOL/BACKEND")->required();
  weight->add_option("WEIGHT", arguments_.weight, "0 to 1000, or \"configured\"")->required();
  add_terms(weight);
  CLI::App *drain = add("drain", "no new connections for a backend; those it has go on",
                        "  sluicectl drain web/b1\n"
                        "  sluicectl drain web/b1 --deadline 10m --wait && ssh b1 systemctl stop nginx");
  CLI::App *undrain =
      add("undrain", "new connections for a drained backend again", "  sluicectl undrain web/b1");
  CLI::App *maintenance = add("maintenance", "drain a backend and stop checking it; or end that",
                              "  sluicectl maintenance web/b1 --wait\n"
                              "  sluicectl maintenance web/b1 --end");
  for (CLI::App *command : {drain, undrain, maintenance})
    command->add_option("BACKEND", arguments_.backend, "POOL/BACKEND")->required();
  for (CLI::App *command : {drain, maintenance}) {
    command
        ->add_option(
            "--deadline", arguments_.deadline,
            "give up the connections that are left after so long: 90s, 10m, 2h; or none, which takes a "
            "deadline away again; without it as long as the pool's drain_deadline says")
        ->transform(CLI::Validator(deadline_in_seconds, "DURATION"));
    command->add_flag("--wait", arguments_.wait, "until no connections are left, with progress");
  }
  for (CLI::App *command : {drain, undrain, maintenance}) add_terms(command);
  maintenance->add_flag("--end", arguments_.end, "it is checked again, and serves when it is well");
}

void CommandLine::add_discovery() {
  add("discovery", "where the pools' backends are learned from, and what each source says",
      "  sluicectl discovery\n  sluicectl -o json discovery");
  CLI::App *enter = add("register", "say that a backend is there; again within the ttl, it is a heartbeat",
                        "  sluicectl register jobs/j1 --address 10.1.0.21 --ttl 10s --weight 50");
  CLI::App *leave = add("deregister", "take a registered backend out", "  sluicectl deregister jobs/j1");
  for (CLI::App *command : {enter, leave})
    command->add_option("NAME", arguments_.backend, "POOL/NAME")->required();
  enter->add_option("--address", arguments_.address, "the backend's")->required();
  enter->add_option("--ttl", arguments_.ttl, "how long it is true: 10s, 5m")->required();
  enter->add_option("--weight", arguments_.weight, "0 to 1000 (default 100)");
}

void CommandLine::add_explain() {
  ExplainOptions &options = arguments_.explain;
  CLI::App *explain =
      add("explain",
          "what the dataplane would do with a packet now, stage by stage, and why; nothing is changed by it",
          "  sluicectl explain tcp 192.0.2.1:40000 198.51.100.10:80          # within a connection\n"
          "  sluicectl explain tcp 192.0.2.1:40000 198.51.100.10:80 --syn    # that opens one\n"
          "  sluicectl explain udp '[2001:db8::7]:4000' '[2001:db8::10]:53' --length 1400\n"
          "  tcpdump -i eth0 -w lost.pcap host 192.0.2.1; sluicectl explain --pcap lost.pcap --packet 3\n"
          "  sluicectl -o json explain --frame '02 00 00 00 00 01 02 00 00 00 00 02 08 06'\n"
          "Exit code 0 whatever the verdict; 2 if the packet is not well given. Limits of a moment (ICMP "
          "answers, looks\n"
          "into other workers' tables) and queues are taken as having room.");
  explain->add_option("PROTOCOL", options.protocol, "tcp or udp")->check(CLI::IsMember({"tcp", "udp"}));
  explain->add_option("CLIENT", options.client, "ADDRESS:PORT that it comes from");
  explain->add_option("VIP", options.vip, "ADDRESS:PORT that it goes to");
  CLI::Option *flags = explain->add_option("--flags", options.flags,
                                           "TCP's: a list of fin, syn, rst, psh, ack, urg (default ack)");
  explain
      ->add_flag_callback(
          "--syn", [&options] { options.flags = "syn"; }, "the same as --flags syn")
      ->excludes(flags);
  explain->add_option("--length", options.length, "bytes of the whole frame (default: its headers)");
  explain->add_option("--worker", options.worker,
                      "as this worker (XDP: CPU) decides; default: one that has its connection");
  explain->add_option("--frame", options.frame, "the frame as hex digits, from its Ethernet header on");
  explain->add_option("--pcap", options.capture,
                      "a capture on Ethernet, pcap or pcapng; - reads standard input");
  explain->add_option("--packet", options.packet, "which of the capture")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void CommandLine::add_endpoint() {
  Endpoint &endpoint = arguments_.endpoint;
  app_.add_option("--socket", endpoint.socket_path, "sluiced's API socket")->capture_default_str();
  app_.add_option("--server", endpoint.server,
                  "sluiced's API by HTTPS instead: https://HOST:PORT (SLUICE_SERVER)");
  app_.add_option("--ca", endpoint.ca_file,
                  "file of the authority that signed the server's certificate (SLUICE_CA)");
  app_.add_option("--certificate", endpoint.certificate, "file of your certificate (SLUICE_CERTIFICATE)");
  app_.add_option("--key", endpoint.key, "file of its key (SLUICE_KEY)");
  app_.add_option("--token-file", arguments_.token_file, "file with your token (SLUICE_TOKEN_FILE)");
}

// What the command line does not say may be in the environment; a socket that it names is meant.
Status CommandLine::finish_endpoint() {
  Endpoint &endpoint = arguments_.endpoint;
  const auto from_environment = [](std::string *value, const char *name) {
    const char *found = std::getenv(name);
    if (value->empty() && found != nullptr) *value = found;
  };
  const bool names_socket = app_.get_option("--socket")->count() > 0;
  if (names_socket && !endpoint.server.empty())
    return Error{"--socket and --server are two places; give one"};
  if (!names_socket) from_environment(&endpoint.server, "SLUICE_SERVER");
  if (!endpoint.server.empty()) {
    if (!endpoint.server.starts_with("https://"))
      return Error{"--server: \"" + endpoint.server + "\" is no https://HOST:PORT"};
    while (endpoint.server.ends_with('/')) endpoint.server.pop_back();
    from_environment(&endpoint.ca_file, "SLUICE_CA");
    from_environment(&endpoint.certificate, "SLUICE_CERTIFICATE");
    from_environment(&endpoint.key, "SLUICE_KEY");
    from_environment(&arguments_.token_file, "SLUICE_TOKEN_FILE");
  }
  if (arguments_.token_file.empty()) return Done{};
  Result<std::string> token = read_token(arguments_.token_file);
  if (!token.ok()) return Error{"--token-file: " + token.error().message};
  endpoint.token = std::move(token).value();
  return Done{};
}

void CommandLine::add_token() {
  CLI::App *token = app_.add_subcommand("token", "bearer tokens for the API by HTTPS");
  token->require_subcommand(1);
  token->fallthrough();
  CLI::App *create = token->add_subcommand("create", "make one: shown once, and kept nowhere");
  create->footer(
      "Examples:\n  sluicectl token create --name ci --role operator --services web,dns --expires 90d > "
      "ci.token\n"
      "  sluicectl token create --name grafana --role viewer --file /etc/sluice/api-tokens");
  create->fallthrough();
  create->callback([this] { chosen_ = "create"; });
  create->add_option("--name", arguments_.token.name, "what the audit log calls who has it")->required();
  create->add_option("--role", arguments_.token.role, "what it may do")
      ->required()
      ->check(CLI::IsMember({"viewer", "operator", "admin"}));
  create->add_option("--services", arguments_.token.services, "for these alone: a,b");
  create
      ->add_option("--expires", arguments_.token.lifetime_s,
                   "after so long it is worth nothing: 12h, 90d (the default); 0d: never")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"m", 60}, {"h", 3600}, {"d", 86400}},
                                        CLI::AsNumberWithUnit::UNIT_REQUIRED, "DURATION"))
      ->check(CLI::Range(int64_t{0}, int64_t{3650} * 86400));
  create->add_option("--file", arguments_.token.file, "add its line to this file, instead of showing it");
}

CommandLine::CommandLine() {
  app_.require_subcommand(1);
  app_.footer(kExitCodeHelp);
  app_.set_version_flag("--version", "sluicectl " SLUICE_VERSION);
  add_endpoint();
  app_.add_option("-o,--output", arguments_.output, "table (for people) or json (for programs)")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  add("status", "both daemons at a glance", "  sluicectl status\n  sluicectl -o json status");
  add("services", "the services, or one of them with its backends",
      "  sluicectl services\n  sluicectl services web")
      ->add_option("SERVICE", arguments_.service, "only this one, with its backends");
  add("backends", "the backends: state, last check, share of slots, traffic",
      "  sluicectl backends\n  sluicectl backends --pool web\n  sluicectl -o json backends")
      ->add_option("--pool", arguments_.pool, "only of this pool");
  add_connections();
  add("counters", "every verdict on packets, and traffic by worker, service and backend",
      "  sluicectl counters\n  sluicectl counters --all")
      ->add_flag("--all", all_, "also what is zero");
  add_explain();
  add_orders();
  add_discovery();
  add("check-config", "check a configuration file, without using it",
      "  sluicectl check-config /etc/sluice/sluice.yaml\n  sluicectl check-config - < new.yaml\n"
      "Without a running sluiced: sluiced --check-config FILE")
      ->add_option("FILE", arguments_.file, "the file; - reads standard input")
      ->required();
  add_token();
  add_configuration();
  add("doctor", "look for what is wrong with this host, the daemons and the backends, and say what mends it",
      "  sluicectl doctor\n  sluicectl -o json doctor | jq '.findings[] | select(.outcome == \"fail\")'\n"
      "Exit codes: 0 nothing failed, 1 something did. Without sluiced it looks at the host alone.")
      ->add_option("--root", doctor_root_, "look at the host's files (/proc, /sys) below this directory")
      ->capture_default_str();
}

Result<Command> CommandLine::command() const {
  if (chosen_ == "status") return Command{.target = "/v1/status", .present = present_status};
  if (chosen_ == "services") return services_command(arguments_);
  if (chosen_ == "backends") {
    return Command{.target = with_parameters("/v1/backends", {{"pool", arguments_.pool}}),
                   .present = present_backends};
  }
  if (chosen_ == "connections") {
    return Command{.target = with_parameters("/v1/connections", arguments_.connections),
                   .present = present_connections};
  }
  if (chosen_ == "explain") return explain_command(arguments_.explain);
  if (chosen_ == "counters") return counters_command(arguments_);
  if (chosen_ == "check-config") return check_config_command(arguments_.file);
  if (chosen_ == "reload") {
    return Command{.method = "POST",
                   .target = with_parameters("/v1/reload", arguments_.terms.parameters()),
                   .present = present_change};
  }
  if (chosen_ == "apply" || chosen_ == "plan") return apply_command(arguments_);
  if (chosen_ == "diff") return diff_command(arguments_);
  if (chosen_ == "revisions") {
    return Command{.target = with_parameters("/v1/revisions", {{"limit", arguments_.limit}}),
                   .present = present_revisions};
  }
  if (chosen_ == "rollback" || chosen_ == "confirm") return revision_command(arguments_, chosen_);
  if (chosen_ == "weight") return weight_command(arguments_);
  if (chosen_ == "discovery") return Command{.target = "/v1/discovery", .present = present_discovery};
  if (chosen_ == "register" || chosen_ == "deregister")
    return registration_command(arguments_, chosen_ == "register");
  return order_command(arguments_, chosen_);
}

// "plan" with another command is that command's dry run: `plan drain web/b1` is `drain web/b1 --dry-run`.
std::vector<std::string> with_plans_resolved(int argc, const char *const *argv) {
  constexpr std::array<std::string_view, 7> kPlannable = {"drain",  "undrain",  "maintenance", "weight",
                                                          "reload", "rollback", "apply"};
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto plan = std::find(words.begin(), words.end(), "plan");
  if (plan == words.end() || plan + 1 == words.end()) return words;
  if (std::find(kPlannable.begin(), kPlannable.end(), *(plan + 1)) == kPlannable.end()) return words;
  words.erase(plan);
  words.emplace_back("--dry-run");
  return words;
}

int CommandLine::run(int argc, const char *const *argv) {
  try {
    std::vector<std::string> words = with_plans_resolved(argc, argv);
    std::reverse(words.begin(), words.end());  // as CLI11 takes them
    app_.parse(std::move(words));
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0) return app_.exit(error);  // --help, --version
    const bool json = asks_for_json({argv, static_cast<size_t>(argc)});
    const Context context{
        .output = json ? OutputFormat::kJson : OutputFormat::kTable, .out = std::cout, .err = std::cerr};
    return report_failure(context, kExitUsage, std::string(error.what()) + "; --help shows what there is");
  }
  if (all_) arguments_.rows = Rows::kAll;
  for (size_t i = 0; i < std::size(kConnectionParameters); i++) {
    arguments_.connections.push_back({kConnectionParameters[i], connection_filter_[i]});
  }
  if (expired_) arguments_.connections.push_back({"expired", "true"});
  if (chosen_ == "plan") arguments_.terms.dry_run = true;
  const Status reachable = finish_endpoint();
  const Context context{.endpoint = arguments_.endpoint,
                        .output = arguments_.output == "json" ? OutputFormat::kJson : OutputFormat::kTable,
                        .out = std::cout,
                        .err = std::cerr};
  if (chosen_ == "create") return create_token(context, arguments_.token, std::time(nullptr));
  if (!reachable.ok()) return report_failure(context, kExitUsage, reachable.error().message);
  if (chosen_ == "doctor") return run_doctor(context, {.root = doctor_root_});
  const Result<Command> chosen = command();
  if (!chosen.ok()) return report_failure(context, kExitUsage, chosen.error().message);
  const int done = run_command(context, chosen.value());
  return done == kExitOk && arguments_.wait && !arguments_.terms.dry_run
             ? wait_until_drained(context, arguments_.backend)
             : done;
}

}  // namespace
}  // namespace sluice::ctl

int main(int argc, char **argv) {
  sluice::ctl::CommandLine command_line;
  return command_line.run(argc, argv);
}
