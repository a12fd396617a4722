#include "dataplane/server/findings.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "dataplane/core/connection_entry.h"
#include "dataplane/server/netlink.h"
#include "dataplane/server/snapshot_store.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

const char *state_name(uint32_t state) {
  constexpr const char *kNames[] = {"empty", "embryonic", "established", "closing"};
  return kNames[state & 3];
}

const char *backend_state_name(uint8_t state) {
  constexpr const char *kNames[] = {"unused", "up", "draining", "down", "closed"};
  return state < std::size(kNames) ? kNames[state] : "unknown";
}

const char *scheduler_name(uint8_t scheduler) {
  return scheduler == kSchedulerLeastConnection ? "least-connection" : "maglev";
}

const char *protocol_name(uint8_t protocol) { return protocol == kProtocolTcp ? "TCP" : "UDP"; }

std::string flags_text(uint8_t flags) {
  constexpr std::pair<uint8_t, const char *> kNames[] = {{kTcpSyn, "SYN"}, {kTcpAck, "ACK"}, {kTcpFin, "FIN"},
                                                         {kTcpRst, "RST"}, {0x08, "PSH"},    {0x20, "URG"}};
  std::string text;
  for (const auto &[bit, name] : kNames)
    if ((flags & bit) != 0) text += (text.empty() ? "" : ",") + std::string(name);
  return text.empty() ? "no flags" : text;
}

/// "192.0.2.1:40000", "[2001:db8::1]:40000".
std::string endpoint_text(const Address &address, uint16_t l4_port) {
  const std::string text = address_text(address);
  return address_is_ipv4(&address) ? fmt::format("{}:{}", text, l4_port)
                                   : fmt::format("[{}]:{}", text, l4_port);
}

std::string mac_text(const uint8_t *mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4],
                     mac[5]);
}

std::string verdict_words(Verdict verdict) {
  const VerdictText text = verdict_text(verdict);
  return text.name + ": " + text.help;
}

/// One by one, since what the packet came to depends on what was found before.
class Findings {
 public:
  Findings(const ExplainContext &context, const ExplainRequest &request, const DryRun &run)
      : context_(context), request_(request), run_(run), snapshot_(*context.live.forwarding->snapshot) {}

  Json all() {
    add("parse", parse());
    if (run_.parsed == kVerdictUndecided) add("service", service());
    if (run_.service) {
      if (!snapshot_.check_sources().empty()) add("check", check());
      add("connection", connection());
      add("slot", slot());
    }
    if (run_.backend != 0) {
      add("backend", backend());
      add("next_hop", next_hop());
      add("size", size());
    }
    add("verdict", {{"finding", verdict_words(run_.verdict)}});
    return std::move(stages_);
  }

 private:
  void add(const char *stage, Json finding) {
    finding["stage"] = stage;
    stages_.push_back(std::move(finding));
  }

  std::string name_of(uint16_t backend) const { return backend_name(snapshot_, backend); }
  bool holds_here() const {
    return !run_.entries.empty() && run_.entries[0].table == run_.worker && run_.entries[0].holds;
  }
  bool is_icmp_error() const { return (run_.packet.flags & kPacketIcmpError) != 0; }
  bool has_backend_already() const {
    return run_.verdict == kVerdictForwardEstablished || run_.verdict == kVerdictForwardAdopted ||
           run_.check != kVerdictUndecided || holds_here();
  }

  Json parse() const;
  std::string packet_words() const;
  Json service() const;
  Json check() const;
  Json connection() const;
  Json entry(const EntryFound &found) const;
  std::string entry_words(const EntryFound &found) const;
  std::string table_words(uint32_t table) const;
  std::string scheduled_when(const EntryFound &found) const;
  std::string why_not(const EntryFound &found) const;
  Json slot() const;
  Json backend() const;
  Json next_hop() const;
  Json size() const;

  const ExplainContext &context_;
  const ExplainRequest &request_;
  const DryRun &run_;
  const MappedSnapshot &snapshot_;
  Json stages_ = Json::array();
};

std::string Findings::packet_words() const {
  const Packet &packet = run_.packet;
  const uint32_t tags = (packet.l3_offset - uint32_t{kEthernetHeaderSize}) / kVlanTagSize;
  std::string text = fmt::format("IPv{}", packet.family);
  if (tags > 0) text += fmt::format(" behind {} VLAN tag{}", tags, tags > 1 ? "s" : "");
  if (packet.l4_verdict != kVerdictUndecided)
    return text + fmt::format(", {} bytes from {} to {}; of what it carries: {}", packet.l3_length,
                              address_text(packet.client), address_text(packet.vip),
                              verdict_words(static_cast<Verdict>(packet.l4_verdict)));
  const std::string flow = fmt::format("{} {} to {}", protocol_name(packet.protocol),
                                       endpoint_text(packet.client, client_port_of(packet.ports)),
                                       endpoint_text(packet.vip, vip_port_of(packet.ports)));
  if (is_icmp_error()) return text + fmt::format(", {} bytes: ICMP error about {}", packet.l3_length, flow);
  text += ", " + flow;
  if (packet.protocol == kProtocolTcp) text += ", " + flags_text(packet.tcp_flags);
  return text + fmt::format(", {} bytes, {} {}", packet.l3_length,
                            packet.family == kFamilyIpv4 ? "TTL" : "hop limit", packet.hop_limit);
}

Json Findings::parse() const {
  const std::string cut =
      request_.frame.size() < request_.length
          ? fmt::format(" (the first {} of its {} bytes were given)", request_.frame.size(), request_.length)
          : "";
  if (run_.parsed != kVerdictUndecided) return {{"finding", verdict_words(run_.parsed) + cut}};
  const Packet &packet = run_.packet;
  Json finding = {{"finding", packet_words() + cut},
                  {"family", packet.family},
                  {"client", address_text(packet.client)},
                  {"vip", address_text(packet.vip)},
                  {"bytes", packet.l3_length}};
  if (packet.l4_verdict != kVerdictUndecided) return finding;
  finding["protocol"] = packet.protocol == kProtocolTcp ? "tcp" : "udp";
  finding["client_port"] = client_port_of(packet.ports);
  finding["port"] = vip_port_of(packet.ports);
  finding["icmp_error"] = is_icmp_error();
  return finding;
}

Json Findings::service() const {
  const std::string vip = address_text(run_.packet.vip);
  if (!run_.vip) return {{"finding", vip + " is no VIP"}};
  if (run_.service_found == kVerdictPassNoService)
    return {{"finding", fmt::format("{} is a VIP, but has no service on {} port {}", vip,
                                    protocol_name(run_.packet.protocol), vip_port_of(run_.packet.ports))}};
  if (!run_.service)
    return {{"finding", fmt::format("{} is a VIP; {}", vip, verdict_words(run_.service_found))}};
  const std::string ports =
      run_.range->first_port == run_.range->last_port
          ? fmt::format("port {}", run_.range->first_port)
          : fmt::format("ports {} to {}", run_.range->first_port, run_.range->last_port);
  const std::string quorum = run_.service->below_quorum != 0 ? ", below its quorum" : "";
  return {{"finding", fmt::format("{} {} of VIP {} is service {} ({}{})", protocol_name(run_.packet.protocol),
                                  ports, vip, snapshot_.string(run_.service->name),
                                  scheduler_name(run_.service->scheduler), quorum)},
          {"service", snapshot_.string(run_.service->name)},
          {"scheduler", scheduler_name(run_.service->scheduler)},
          {"vip_number", run_.vip->number}};
}

Json Findings::check() const {
  const std::string from = endpoint_text(run_.packet.client, client_port_of(run_.packet.ports));
  if (run_.check == kVerdictUndecided) return {{"finding", from + " is no source of health checks"}};
  const std::string of = from + " is a source of health checks through the data path";
  if (run_.check == kVerdictDropCheck) return {{"finding", of + ", of which no backend has this port now"}};
  const std::string late = holds_here() ? ", but an entry of before comes first" : "";
  return {{"finding", fmt::format("{}: pinned to {}{}", of, name_of(run_.check_backend), late)},
          {"backend", name_of(run_.check_backend)}};
}

std::string Findings::table_words(uint32_t table) const {
  return table < context_.live.workers ? fmt::format("worker {}'s table", table)
                                       : fmt::format("table {}, which has no worker any more,", table);
}

/// Entries do not say when they were made or by which snapshot. What can be told: one that was last seen
/// before the snapshot in force was there is older, and one that names another backend than its slot does.
std::string Findings::scheduled_when(const EntryFound &found) const {
  // A second less: workers' clocks may be some milliseconds behind.
  const bool seen_before = context_.in_force_since_s &&
                           *context_.in_force_since_s + found.age_s > uint64_t{context_.live.now_s} + 1;
  const bool other_slot = run_.service->scheduler == kSchedulerMaglev && !run_.slots.empty() &&
                          run_.slots[0].backend != found.backend;
  return seen_before || other_slot ? "before" : "unknown";
}

/// In the order of connection_holds(), which is the one that decides.
std::string Findings::why_not(const EntryFound &found) const {
  const auto backends = snapshot_.backends();
  const bool known = found.backend < backends.size() && backend_keeps_connections(&backends[found.backend]);
  if (!known) return "its backend keeps no connections any more";
  if (found.table != run_.worker && found.age_s > found.timeout_s) return "it has timed out";
  if (backends[found.backend].state == kBackendDown) return "its backend is down, and this begins anew";
  if (found.state == kConnectionClosing) return "it is closing, and this SYN begins anew";
  if (found.age_s > found.timeout_s) return "it has timed out, and this begins anew";
  return fmt::format("its backend takes no new connections ({})",
                     backend_state_name(backends[found.backend].state));
}

std::string Findings::entry_words(const EntryFound &found) const {
  std::string text =
      fmt::format("{} has it: {}, last seen {} s ago (timeout {} s), of {}", table_words(found.table),
                  state_name(found.state), found.age_s, found.timeout_s, name_of(found.backend));
  if (scheduled_when(found) == "before")
    text += fmt::format(", scheduled before snapshot {} was in force", snapshot_.header().revision);
  if (!found.holds) text += "; it does not hold: " + why_not(found);
  return text;
}

Json Findings::entry(const EntryFound &found) const {
  return {{"table", found.table},
          {"has_worker", found.table < context_.live.workers},
          {"state", state_name(found.state)},
          {"age_s", found.age_s},
          {"timeout_s", found.timeout_s},
          {"expired", found.age_s > found.timeout_s},
          {"backend", name_of(found.backend)},
          {"holds", found.holds},
          {"scheduled", scheduled_when(found)}};
}

Json Findings::connection() const {
  Json entries = Json::array();
  std::string text;
  for (const EntryFound &found : run_.entries) {
    entries.push_back(entry(found));
    text += (text.empty() ? "" : "; ") + entry_words(found);
  }
  if (text.empty()) text = "no table has an entry of it";
  if (run_.enters)
    text += fmt::format("; worker {} {}", run_.worker,
                        run_.verdict == kVerdictForwardAdopted ? "copies it" : "enters it anew");
  Json finding = {{"finding", text},
                  {"entries", std::move(entries)},
                  {"asks_other_workers", run_.has_asked_peers},
                  {"enters", run_.enters}};
  return finding;
}

Json Findings::slot() const {
  if (run_.slots.empty()) return {{"finding", "the service has no slots: no backend takes new connections"}};
  Json slots = Json::array();
  std::string named;
  for (const SlotFound &found : run_.slots) {
    Json one = {{"number", found.number}, {"backend", name_of(found.backend)}};
    named += (named.empty() ? "" : " and ") + fmt::format("{} ({}", found.number, name_of(found.backend));
    if (run_.slots.size() > 1) {
      one["active_connections"] = found.active_connections;
      named += fmt::format(", {} active", found.active_connections);
    }
    named += ")";
    slots.push_back(std::move(one));
  }
  const std::string text = fmt::format("its hash names slot{} {} of {}", run_.slots.size() > 1 ? "s" : "",
                                       named, run_.service->slot_count);
  const bool used = !has_backend_already();
  return {{"finding", used ? text : text + "; not used, it has a backend already"},
          {"slots", std::move(slots)},
          {"of", run_.service->slot_count},
          {"used", used}};
}

Json Findings::backend() const {
  const std::string name = name_of(run_.backend);
  if (run_.backend >= snapshot_.backends().size()) return {{"finding", name + " is not in the snapshot"}};
  const Backend &record = snapshot_.backends()[run_.backend];
  std::string text =
      fmt::format("{} ({}) is {}", name, address_text(record.address), backend_state_name(record.state));
  if (record.state == kBackendUp) text += fmt::format(", weight {}", record.weight);
  if (record.ramp_step != 0)
    text += fmt::format(", in a slow start: {} of {} parts", record.ramp_step, +kRampSteps);
  if (record.failed_open != 0) text += ", though it fails its checks: its whole pool does";
  if (record.removed != 0) text += ", removed from the configuration and kept for its connections";
  return {{"finding", text},
          {"backend", name},
          {"address", address_text(record.address)},
          {"state", backend_state_name(record.state)},
          {"weight", record.weight},
          {"removed", record.removed != 0}};
}

Json Findings::next_hop() const {
  const std::string way = context_.next_hop(run_.backend);
  if (!run_.egress || (run_.egress->flags & kEgressReady) == 0)
    return {{"finding", way.empty() ? "there is none" : way}, {"ready", false}};
  const Egress &egress = *run_.egress;
  const uint8_t *outer = egress.headers + kEthernetHeaderSize;
  const bool ipv6 = (egress.flags & kEgressOuterIpv6) != 0;
  Address source = {}, destination = {};
  if (ipv6) {
    source = load_ipv6_address(outer + 8);
    destination = load_ipv6_address(outer + 24);
  } else {
    source = address_from_ipv4(load_be32(outer + 12));
    destination = address_from_ipv4(load_be32(outer + 16));
  }
  const std::string port = context_.port_name(egress.port);
  return {{"finding", fmt::format("by port {}{}, to {} from {}; outer IPv{} {} to {}", port,
                                  way.empty() ? "" : " via " + way, mac_text(egress.headers),
                                  mac_text(egress.headers + 6), ipv6 ? 6 : 4, address_text(source),
                                  address_text(destination))},
          {"ready", true},
          {"port", port},
          {"mac", mac_text(egress.headers)},
          {"source_mac", mac_text(egress.headers + 6)},
          {"outer_source", address_text(source)},
          {"outer_destination", address_text(destination)}};
}

Json Findings::size() const {
  if (!run_.egress || run_.fits == kVerdictDropNoNextHop)
    return {{"finding", "not looked at: there is no way to the backend"}};
  const Egress &egress = *run_.egress;
  const uint32_t whole = uint32_t{run_.packet.l3_length} + egress.outer_size;
  Json finding = {
      {"outer_bytes", whole}, {"mtu", egress.outer_mtu}, {"fits", run_.fits == kVerdictUndecided}};
  if (run_.fits == kVerdictDropHopLimit) {
    finding["finding"] = fmt::format("its TTL or hop limit of {} ends here", run_.packet.hop_limit);
    return finding;
  }
  std::string text =
      fmt::format("{} bytes and {} of the outer header {} the MTU of {}", run_.packet.l3_length,
                  egress.outer_size, whole <= egress.outer_mtu ? "fit" : "are more than", egress.outer_mtu);
  if (run_.verdict == kVerdictReplyTooBig)
    text +=
        fmt::format("; the client is told to send at most {} (of such answers a worker sends {} a second)",
                    egress.outer_mtu - egress.outer_size, 1000 * kIcmpRepliesPerMs);
  if (run_.verdict == kVerdictDropTooBig) text += ", and nobody is told";
  finding["finding"] = text;
  return finding;
}

}  // namespace

VerdictText verdict_text(Verdict verdict) {
  switch (verdict) {
#define SLUICE_VERDICT(identifier, class_, metric, help) \
  case kVerdict##identifier:                             \
    return {metric, #class_, help};
#include "dataplane/abi/verdicts.def"
#undef SLUICE_VERDICT
    default:
      return {"undecided", "drop", "no stage has decided: please report it"};
  }
}

std::string backend_name(const MappedSnapshot &snapshot, uint16_t backend) {
  const auto backends = snapshot.backends();
  if (backend >= backends.size() || backends[backend].state == kBackendUnused)
    return fmt::format("backend {}", backend);
  return fmt::format("{}/{}", snapshot.string(backends[backend].pool),
                     snapshot.string(backends[backend].name));
}

Json findings(const ExplainContext &context, const ExplainRequest &request, const DryRun &run) {
  return Findings(context, request, run).all();
}

}  // namespace sluice
