#include <cstdio>
#include <map>
#include <memory>

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <spdlog/fmt/fmt.h>

#include "tools/sluicectl/doctor/checks.h"

namespace sluice::ctl {

namespace {

using nlohmann::json;

constexpr int64_t kDay = 86400;
constexpr int64_t kSoonDays = 30;

struct Closer {
  void operator()(std::FILE *file) const { std::fclose(file); }
  void operator()(X509 *certificate) const { X509_free(certificate); }
};

/// Seconds that the file's first certificate is valid from then on.
std::optional<int64_t> validity_s(const std::string &file, int64_t now_unix_s) {
  const std::unique_ptr<std::FILE, Closer> opened(std::fopen(file.c_str(), "re"));
  if (!opened) return std::nullopt;
  const std::unique_ptr<X509, Closer> certificate(PEM_read_X509(opened.get(), nullptr, nullptr, nullptr));
  if (!certificate) return std::nullopt;
  const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> now(ASN1_TIME_set(nullptr, now_unix_s),
                                                                  ASN1_TIME_free);
  int days = 0;
  int seconds = 0;
  if (!now || ASN1_TIME_diff(&days, &seconds, now.get(), X509_get0_notAfter(certificate.get())) != 1)
    return std::nullopt;
  return days * kDay + seconds;
}

struct PoolCount {
  size_t well = 0;
  size_t of = 0;
};

}  // namespace

Findings check_daemons(const SystemFacts &system) {
  if (!system.unreachable.empty())
    return {{"sluiced", "", Outcome::kFail, system.unreachable + "; only the host is looked at",
             "systemctl start sluiced; journalctl -u sluiced -n 50"}};
  Findings findings = {{"sluiced", "", Outcome::kPass, "version " + system.status.value("version", ""), ""}};
  const std::string problem = system.status.at("config").value("problem", "");
  if (!problem.empty())
    findings.push_back({"configuration", "", Outcome::kWarn, problem,
                        "sluicectl check-config " + system.status.at("config").value("path", "")});
  const json &dataplane = system.status.at("dataplane");
  if (!dataplane.at("connected").get<bool>()) {
    findings.push_back({"dataplane", "", Outcome::kFail, dataplane.value("state", ""),
                        "systemctl start sluice-dataplane; journalctl -u sluice-dataplane -n 50"});
    return findings;
  }
  const json &details = dataplane.at("details");
  findings.push_back({"dataplane", "", Outcome::kPass,
                      fmt::format("engine {}, version {}", system.engine, dataplane.value("version", "")),
                      ""});
  if (!details.value("stored", true))
    findings.push_back({"dataplane", "snapshot", Outcome::kWarn,
                        details.value("warning", "it is not on disk"),
                        "df -h /var/lib/sluice/dataplane && sluicectl reload"});
  return findings;
}

Findings check_backends(const SystemFacts &system) {
  Findings findings;
  std::map<std::string, PoolCount> pools;
  for (const json &backend : system.backends) {
    const std::string pool = backend.value("pool", "");
    const std::string state = backend.value("state", "");
    const bool is_wanted = state == "up" || state == "starting" || state == "down" || state == "failing" ||
                           state == "ejected" || state == "unknown";
    if (!is_wanted) continue;  // an operator has taken it out
    const bool is_well = state == "up" || state == "starting";
    pools[pool].of++;
    if (is_well) pools[pool].well++;
    if (is_well || state == "unknown") continue;
    findings.push_back({"backends", pool + "/" + backend.value("name", ""), Outcome::kWarn,
                        fmt::format("{}: {}", state, backend.value("last_check", "")),
                        "ping -c 3 " + backend.value("address", "") + "; sluicectl backends --pool " + pool});
  }
  for (const auto &[pool, count] : pools)
    findings.push_back({"backends", pool, count.well == 0 ? Outcome::kFail : Outcome::kPass,
                        fmt::format("{} of {} serve", count.well, count.of),
                        count.well == 0 ? "sluicectl backends --pool " + pool : ""});
  if (system.engine.empty()) return findings;
  const json hops = system.status.at("dataplane").at("details").value("next_hops", json::object());
  for (const json &hop : hops.value("list", json::array()))
    if (hop.value("state", "") == "unreachable")
      findings.push_back({"next-hops", hop.value("pool", "") + "/" + hop.value("name", ""), Outcome::kFail,
                          "the kernel has no way to it: " + hop.value("via", ""),
                          "ip route get " + hop.value("address", "") + "; ip neigh show"});
  return findings;
}

Findings check_certificate(const Host &host, const SystemFacts &system, int64_t now_unix_s) {
  if (!system.unreachable.empty()) return {};
  const std::string file = system.status.at("config").value("api_certificate", "");
  if (file.empty())
    return {{"certificate", "api", Outcome::kPass, "none: the API listens on its socket alone", ""}};
  const std::string renew = "renew " + file + ", then: sluicectl reload";
  const std::optional<int64_t> left_s = file[0] == '/' ? validity_s(host.at(file), now_unix_s) : std::nullopt;
  if (!left_s)
    return {{"certificate", "api", Outcome::kWarn, file + " cannot be read", "sudo sluicectl doctor"}};
  if (*left_s <= 0) return {{"certificate", "api", Outcome::kFail, file + " has expired", renew}};
  const int64_t days = *left_s / kDay;
  return {{"certificate", "api", days < kSoonDays ? Outcome::kWarn : Outcome::kPass,
           fmt::format("{} is valid for {} days", file, days), days < kSoonDays ? renew : ""}};
}

Findings check_path(const PathCounts &before, const PathCounts &after) {
  if (before.targets == 0) return {};
  const std::string subject = "via: dataplane";
  const uint64_t ended = after.ended - before.ended;
  const uint64_t forwarded = after.forwarded - before.forwarded;
  if (forwarded > 0)
    return {{"checks-path", subject, Outcome::kPass,
             fmt::format("{} packets of checks were forwarded, while {} checks ended", forwarded, ended),
             ""}};
  // Each may have been under way when the first look was taken.
  if (ended <= before.targets)
    return {{"checks-path", subject, Outcome::kWarn, "too few checks ended to tell", "sluicectl doctor"}};
  return {{"checks-path", subject, Outcome::kFail,
           fmt::format("{} checks ended, and none of their packets came to the dataplane", ended),
           "ip route get VIP from SOURCE   # has to lead to a port (docs/configuration.md: via)"}};
}

}  // namespace sluice::ctl
