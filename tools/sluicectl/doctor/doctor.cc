#include "tools/sluicectl/doctor/doctor.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <thread>

#include <spdlog/fmt/fmt.h>
#include <sys/timex.h>

#include "tools/sluicectl/doctor/checks.h"
#include "tools/sluicectl/table.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongestWaitForChecks{15};
constexpr std::chrono::milliseconds kLookGap{300};

const char *outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kWarn:
      return "warn";
    case Outcome::kFail:
      return "FAIL";
  }
  return "";
}

/// A good answer of sluiced; errors are what to tell.
Result<json> get(const Endpoint &endpoint, const std::string &target) {
  const Result<Answer> asked = ask(endpoint, "GET", target, "");
  if (!asked.ok()) return asked.error();
  if (asked.value().status != 200)
    return Error{fmt::format("sluiced answers {} with HTTP status {}", target, asked.value().status)};
  json body = json::parse(asked.value().body, nullptr, false);
  if (body.is_discarded()) return Error{"sluiced answers " + target + " with no JSON"};
  return body;
}

SystemFacts ask_system(const Endpoint &endpoint) {
  SystemFacts facts;
  const Result<json> status = get(endpoint, "/v1/status");
  const Result<json> backends = status.ok() ? get(endpoint, "/v1/backends") : status;
  if (status.ok() && backends.ok()) return facts_of(status.value(), backends.value());
  facts.unreachable = (status.ok() ? backends : status).error().message;
  return facts;
}

/// Nothing when sluiced does not tell, as not to whoever has no right to the counters.
std::optional<PathCounts> path_counts(const Endpoint &endpoint) {
  const Result<json> status = get(endpoint, "/v1/status");
  const Result<json> counters = status.ok() ? get(endpoint, "/v1/counters") : status;
  if (!status.ok() || !counters.ok()) return std::nullopt;
  PathCounts counts;
  const json &health = status.value().at("health");
  counts.targets = health.value("through_dataplane", uint64_t{0});
  counts.ended = health.value("through_dataplane_checks", uint64_t{0});
  for (const json &verdict : counters.value().at("verdicts"))
    if (verdict.at("name") == "forward_check") counts.forwarded = verdict.at("packets").get<uint64_t>();
  return counts;
}

/// Waits until as many checks have ended that one of them has begun meanwhile.
Findings watch_path(const Context &context) {
  const std::optional<PathCounts> before = path_counts(context.endpoint);
  if (!before || before->targets == 0) return {};
  context.err << "waiting for checks that go through the data path ...\n";
  std::optional<PathCounts> after = before;
  const Clock::time_point end = Clock::now() + kLongestWaitForChecks;
  while (after && after->ended - before->ended <= before->targets && Clock::now() < end) {
    std::this_thread::sleep_for(kLookGap);
    after = path_counts(context.endpoint);
  }
  return after ? check_path(*before, *after) : Findings();
}

ClockState clock_state() {
  timex asked = {};
  const int state = ::adjtimex(&asked);
  if (state < 0) return ClockState::kUnknown;
  return state == TIME_ERROR || (asked.status & STA_UNSYNC) != 0 ? ClockState::kUnsynchronized
                                                                 : ClockState::kSynchronized;
}

Findings look_at_all(const Context &context, const DoctorOptions &options) {
  const Host host(options.root);
  const SystemFacts system = ask_system(context.endpoint);
  Findings all;
  const auto add = [&all](Findings findings) {
    all.insert(all.end(), std::make_move_iterator(findings.begin()), std::make_move_iterator(findings.end()));
  };
  add(check_daemons(system));
  add(check_xdp_mode(system));
  if (!context.endpoint.server.empty()) {
    add({{"host", "", Outcome::kWarn, "sluiced is on another host, which cannot be looked at from here",
          "ssh to it, and there: sluicectl doctor"}});
    add(check_backends(system));
    if (!system.engine.empty()) add(watch_path(context));
    return all;
  }
  add(check_nics(host, system));
  add(check_mtu(host, system));
  add(check_rp_filter(host, system));
  add(check_huge_pages(host, system));
  add(check_memlock(host, system));
  add(check_iommu(host, system));
  add(check_cores(host, system));
  add(check_governor(host, system));
  add(check_btf(host, system));
  add(check_clock(host, system, clock_state()));
  add(check_certificate(host, system, static_cast<int64_t>(std::time(nullptr))));
  if (system.unreachable.empty()) add(check_backends(system));
  if (!system.engine.empty()) add(watch_path(context));
  return all;
}

json to_json(const Findings &findings) {
  json list = json::array();
  json counts = {{"pass", 0}, {"warn", 0}, {"fail", 0}};
  for (const Finding &finding : findings) {
    const std::string outcome = finding.outcome == Outcome::kFail ? "fail" : outcome_name(finding.outcome);
    counts[outcome] = counts[outcome].get<int>() + 1;
    list.push_back({{"check", finding.check},
                    {"subject", finding.subject},
                    {"outcome", outcome},
                    {"found", finding.found},
                    {"mend", finding.mend}});
  }
  return {{"findings", list}, {"counts", counts}};
}

}  // namespace

std::string present_findings(Findings findings) {
  std::ranges::stable_sort(findings, std::ranges::greater(), &Finding::outcome);
  std::string text;
  size_t failed = 0;
  size_t warned = 0;
  for (const Finding &finding : findings) {
    failed += finding.outcome == Outcome::kFail ? 1 : 0;
    warned += finding.outcome == Outcome::kWarn ? 1 : 0;
    text += fmt::format("{}  {}{}{}: {}\n", outcome_name(finding.outcome), finding.check,
                        finding.subject.empty() ? "" : " ", finding.subject, finding.found);
    if (!finding.mend.empty()) text += "      " + finding.mend + "\n";
  }
  return text + fmt::format("{} looked at, {} failed, {} to be looked at\n", findings.size(), failed, warned);
}

int run_doctor(const Context &context, const DoctorOptions &options) {
  Findings findings;
  try {
    findings = look_at_all(context, options);
  } catch (const json::exception &exception) {
    return report_failure(context, kExitFailure,
                          std::string("cannot read the answer of sluiced (") + exception.what() +
                              "); are sluicectl and sluiced of the same version?");
  }
  if (context.output == OutputFormat::kJson)
    context.out << to_json(findings).dump(2, ' ', false, json::error_handler_t::replace) << "\n";
  else
    context.out << present_findings(findings);
  const bool failed =
      std::ranges::any_of(findings, [](const Finding &one) { return one.outcome == Outcome::kFail; });
  return failed ? kExitFailure : kExitOk;
}

}  // namespace sluice::ctl
