#include "controlplane/api/explain.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/render.h"
#include "controlplane/model/address_text.h"
#include "dataplane/abi/connection.h"
#include "dataplane/abi/control_protocol.h"
#include "dataplane/abi/wire.h"

namespace sluice::api {

namespace {

using nlohmann::json;
using Query = std::map<std::string, std::string>;

// What a made frame is of; parameters that a given frame excludes.
constexpr std::array kFlowParameters = {"client", "client_port", "vip", "port", "protocol", "flags"};

std::optional<std::string> value_of(const Query &query, const std::string &name) {
  const auto found = query.find(name);
  return found == query.end() ? std::nullopt : std::optional(found->second);
}

Error wrong(const std::string &name, const std::string &value, const std::string &wanted) {
  return Error{fmt::format("query parameter {}: \"{}\" is no {}", name, value, wanted)};
}

Result<Address> address_of(const Query &query, const std::string &name) {
  const std::string text = value_of(query, name).value_or("");
  const std::optional<Address> address = parse_address(text);
  if (!address) return wrong(name, text, "IPv4 or IPv6 address");
  return *address;
}

Result<uint16_t> port_of(const Query &query, const std::string &name) {
  const std::string text = value_of(query, name).value_or("");
  const std::optional<uint64_t> number = parse_number(text, 65535);
  if (!number) return wrong(name, text, "port from 0 to 65535");
  return static_cast<uint16_t>(*number);
}

// A number that need not be there.
Status add_number(const Query &query, const std::string &name, uint64_t least, uint64_t most, json *fields) {
  const std::optional<std::string> text = value_of(query, name);
  if (!text) return Done{};
  const std::optional<uint64_t> number = parse_number(*text, most);
  if (!number || *number < least) return wrong(name, *text, fmt::format("number from {} to {}", least, most));
  (*fields)[name] = *number;
  return Done{};
}

// A client's packet within a connection has ACK set, unless it is said otherwise.
Result<uint8_t> flags_of(const Query &query) {
  constexpr std::pair<std::string_view, uint8_t> kNames[] = {{"fin", 0x01}, {"syn", 0x02}, {"rst", 0x04},
                                                             {"psh", 0x08}, {"ack", 0x10}, {"urg", 0x20}};
  const std::string text = value_of(query, "flags").value_or("ack");
  uint8_t flags = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view name = std::string_view(text).substr(begin, end - begin);
    const auto *found = std::ranges::find(kNames, name, &std::pair<std::string_view, uint8_t>::first);
    if (found == std::end(kNames)) return wrong("flags", text, "list of fin, syn, rst, psh, ack and urg");
    flags |= found->second;
    begin = end + 1;
  }
  return flags;
}

struct Flow {
  Address client{};
  Address vip{};
  uint16_t client_port = 0;
  uint16_t port = 0;
  bool tcp = true;
  uint8_t flags = 0;  // of TCP

  bool ipv4() const { return address_is_ipv4(&vip); }
  uint32_t ip_size() const { return ipv4() ? kIpv4HeaderSize : kIpv6HeaderSize; }
  uint32_t l4_size() const { return tcp ? kTcpHeaderSize : kUdpHeaderSize; }
};

Result<Flow> parse_flow(const Query &query) {
  Flow flow;
  for (const auto &[name, address] : {std::pair("client", &flow.client), std::pair("vip", &flow.vip)}) {
    const Result<Address> read = address_of(query, name);
    if (!read.ok()) return read.error();
    *address = read.value();
  }
  for (const auto &[name, port] :
       {std::pair("client_port", &flow.client_port), std::pair("port", &flow.port)}) {
    const Result<uint16_t> read = port_of(query, name);
    if (!read.ok()) return read.error();
    *port = read.value();
  }
  if (address_is_ipv4(&flow.client) != flow.ipv4())
    return Error{fmt::format("query parameters client and vip: \"{}\" and \"{}\" are of two families",
                             format_address(flow.client), format_address(flow.vip))};
  const std::string protocol = value_of(query, "protocol").value_or("tcp");
  if (protocol != "tcp" && protocol != "udp") return wrong("protocol", protocol, "\"tcp\" or \"udp\"");
  flow.tcp = protocol == "tcp";
  if (!flow.tcp && query.contains("flags")) return Error{"query parameter flags: UDP has none"};
  const Result<uint8_t> flags = flags_of(query);
  if (!flags.ok()) return flags.error();
  flow.flags = flags.value();
  return flow;
}

void put_be16(std::vector<uint8_t> *bytes, uint32_t value) {
  bytes->push_back(static_cast<uint8_t>(value >> 8));
  bytes->push_back(static_cast<uint8_t>(value));
}

void put_zeros(std::vector<uint8_t> *bytes, size_t count) { bytes->insert(bytes->end(), count, 0); }

void put_address(std::vector<uint8_t> *bytes, const Address &address, bool ipv4) {
  std::array<uint8_t, sizeof(Address)> raw{};
  std::memcpy(raw.data(), &address, raw.size());
  bytes->insert(bytes->end(), raw.begin() + (ipv4 ? 12 : 0), raw.end());
}

// The headers of a frame of `length` bytes: what a decision is made by, so no link addresses and checksums
// (dataplane/core/parse.h reads neither). DF is set, as clients do, and the TTL far from its end.
std::vector<uint8_t> headers_of(const Flow &flow, uint32_t length) {
  constexpr uint8_t kHops = 64;
  const uint8_t protocol = flow.tcp ? 6 : 17;
  const uint32_t l4_length = length - kEthernetHeaderSize - flow.ip_size();
  std::vector<uint8_t> bytes(12);
  if (flow.ipv4()) {
    put_be16(&bytes, 0x0800);
    put_be16(&bytes, 0x4500);
    put_be16(&bytes, length - kEthernetHeaderSize);
    put_be16(&bytes, 0);       // identification
    put_be16(&bytes, 0x4000);  // DF
    bytes.insert(bytes.end(), {kHops, protocol, 0, 0});
  } else {
    put_be16(&bytes, 0x86dd);
    bytes.insert(bytes.end(), {0x60, 0, 0, 0});
    put_be16(&bytes, l4_length);
    bytes.insert(bytes.end(), {protocol, kHops});
  }
  put_address(&bytes, flow.client, flow.ipv4());
  put_address(&bytes, flow.vip, flow.ipv4());
  put_be16(&bytes, flow.client_port);
  put_be16(&bytes, flow.port);
  if (flow.tcp) {
    put_zeros(&bytes, 8);  // sequence numbers
    bytes.insert(bytes.end(), {0x50, flow.flags});
    put_zeros(&bytes, 6);  // window, checksum, urgent pointer
  } else {
    put_be16(&bytes, l4_length);
    put_zeros(&bytes, 2);
  }
  return bytes;
}

Result<json> of_flow(const Query &query) {
  const Result<Flow> flow = parse_flow(query);
  if (!flow.ok()) return flow.error();
  const uint32_t shortest = kEthernetHeaderSize + flow.value().ip_size() + flow.value().l4_size();
  json fields = {{"length", shortest}};
  const Status length = add_number(query, "length", shortest, kEthernetHeaderSize + 65535, &fields);
  if (!length.ok()) return length.error();
  const std::vector<uint8_t> headers = headers_of(flow.value(), fields["length"]);
  fields["frame"] = fmt::format("{:02x}", fmt::join(headers, ""));
  return fields;
}

Result<json> of_frame(const Query &query, const std::string &frame) {
  for (const char *name : kFlowParameters)
    if (query.contains(name))
      return Error{
          fmt::format("query parameters frame and {}: give a frame, or what it is to be made of", name)};
  const bool is_hex = frame.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  if (!is_hex || frame.size() % 2 != 0 || frame.size() / 2 > kExplainMaxFrameSize)
    return Error{
        fmt::format("query parameter frame: hex digits of at most {} whole bytes are needed; of a longer "
                    "frame its first ones, and its length in length",
                    +kExplainMaxFrameSize)};
  json fields = {{"frame", frame}};
  const Status length = add_number(query, "length", frame.size() / 2, kExplainMaxLength, &fields);
  if (!length.ok()) return length.error();
  return fields;
}

// Nothing of the answer for whom its service is not: not even whether there is one.
bool may_read(const json &answer, const Scope &scope) {
  if (scope.is_everything()) return true;
  const auto service = answer.find("service");
  return service != answer.end() && service->is_string() && scope.has_service(service->get<std::string>());
}

}  // namespace

Result<json> parse_explain_query(const Query &query) {
  const std::optional<std::string> frame = value_of(query, "frame");
  Result<json> fields = frame ? of_frame(query, *frame) : of_flow(query);
  if (!fields.ok()) return fields;
  const Status worker = add_number(query, "worker", 0, kMaxConnectionTables - 1, &fields.value());
  if (!worker.ok()) return worker.error();
  return fields;
}

Response get_explain(const Call &call) {
  const Result<json> fields = parse_explain_query(call.query);
  if (!fields.ok()) return problem(400, fields.error().message);
  const Explained explained = call.control.explain(fields.value());
  if (explained.outcome == Explained::Outcome::kUnreachable) return problem(503, explained.message);
  if (explained.outcome == Explained::Outcome::kRefused) return problem(400, explained.message);
  if (!may_read(explained.answer, call.scope))
    return out_of_scope(call, "this packet, if it is for a service at all,");
  return json_response(200, explained.answer);
}

}  // namespace sluice::api
