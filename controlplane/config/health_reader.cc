#include "controlplane/config/health_reader.h"

#include <algorithm>
#include <array>

#include "controlplane/config/command_reader.h"
#include "controlplane/config/tls_reader.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr size_t kMaxPathLength = 2048;
constexpr size_t kMaxTextLength = 255;
constexpr size_t kMaxBytes = 4096;
constexpr size_t kMaxListLength = 64;
constexpr uint32_t kMaxJitterPercent = 50;
constexpr milliseconds kMinInterval = 10ms;
constexpr milliseconds kMaxInterval = 1h;

constexpr std::array<std::string_view, 32> kHealthKeys = {
    "type",      "port",      "source",   "interval",      "fast_interval", "timeout",  "jitter", "rise",
    "fall",      "tls",       "send",     "expect",        "method",        "path",     "host",   "headers",
    "status",    "body",      "version",  "service",       "name",          "record",   "code",   "answer",
    "transport", "client_id", "username", "password_file", "command",       "readable", "via",    "vip"};

constexpr std::array<std::string_view, 4> kOwnHeaders = {"Host", "Content-Length", "Transfer-Encoding",
                                                         "Connection"};

// Which types know a key that not all of them know.
struct KeyUse {
  std::string_view key;
  std::string_view types;
};
constexpr std::array<KeyUse, 25> kKeyUses = {{
    {"port", "tcp tls http https grpc websocket dns udp quic mqtt exec"},
    {"source", "icmp tcp tls http https grpc websocket dns udp quic mqtt"},
    {"tls", "tls https grpc websocket mqtt"},
    {"send", "tcp udp"},
    {"expect", "tcp udp"},
    {"method", "http https"},
    {"path", "http https websocket"},
    {"host", "http https websocket"},
    {"headers", "http https"},
    {"status", "http https"},
    {"body", "http https"},
    {"version", "http https"},
    {"service", "grpc"},
    {"name", "dns"},
    {"record", "dns"},
    {"code", "dns"},
    {"answer", "dns"},
    {"transport", "dns"},
    {"client_id", "mqtt"},
    {"username", "mqtt"},
    {"password_file", "mqtt"},
    {"via", "tcp tls http https grpc websocket dns udp quic mqtt"},
    {"vip", "tcp tls http https grpc websocket dns udp quic mqtt"},
    {"command", "exec"},
    {"readable", "exec"},
}};

constexpr std::array<std::pair<std::string_view, uint16_t>, 9> kRecordTypes = {{
    {"a", 1},
    {"ns", 2},
    {"cname", 5},
    {"soa", 6},
    {"ptr", 12},
    {"mx", 15},
    {"txt", 16},
    {"aaaa", 28},
    {"srv", 33},
}};
constexpr std::array<std::pair<std::string_view, uint16_t>, 6> kDnsCodes = {{
    {"noerror", 0},
    {"formerr", 1},
    {"servfail", 2},
    {"nxdomain", 3},
    {"notimp", 4},
    {"refused", 5},
}};

bool has_word(std::string_view words, std::string_view word) {
  for (size_t begin = 0; begin <= words.size();) {
    const size_t end = std::min(words.find(' ', begin), words.size());
    if (words.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

bool is_same_header(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

class HealthReader {
 public:
  HealthReader(const Field &field, FieldReader &reader) : field_(field), reader_(reader) {}

  model::HealthSpec read() {
    model::HealthSpec health;
    if (!reader_.is_map(field_, kHealthKeys)) return health;
    const auto type = reader_.require(field_, "type");
    if (!type) return health;
    using Reader = model::HealthKind (HealthReader::*)();
    const auto read_kind = reader_.choice<Reader>(*type, {{"none", &HealthReader::read_none},
                                                          {"icmp", &HealthReader::read_icmp},
                                                          {"tcp", &HealthReader::read_tcp},
                                                          {"tls", &HealthReader::read_tls_check},
                                                          {"http", &HealthReader::read_http},
                                                          {"https", &HealthReader::read_https},
                                                          {"grpc", &HealthReader::read_grpc},
                                                          {"websocket", &HealthReader::read_websocket},
                                                          {"dns", &HealthReader::read_dns},
                                                          {"udp", &HealthReader::read_udp},
                                                          {"quic", &HealthReader::read_quic},
                                                          {"mqtt", &HealthReader::read_mqtt},
                                                          {"exec", &HealthReader::read_exec}});
    if (!read_kind) return health;
    type_ = type->node->text;
    refuse_useless_keys();
    health.kind = (this->**read_kind)();
    if (!health.checks()) return health;
    if (knows("port")) read_port(&health);
    if (const auto source = find("source")) read_source(*source, &health);
    // What follows from it: document_reader.cc and check_vips.h.
    if (const auto via = find("via")) reader_.choice<bool>(*via, {{"direct", false}, {"dataplane", true}});
    read_pace(&health);
    return health;
  }

 private:
  std::optional<Field> find(std::string_view key) const { return FieldReader::find(field_, key); }

  bool knows(std::string_view key) const {
    const auto use = std::ranges::find(kKeyUses, key, &KeyUse::key);
    return use == kKeyUses.end() ? type_ != "none" || key == "type" : has_word(use->types, type_);
  }

  // A key that the type of check never uses is a misunderstanding, not a decoration.
  void refuse_useless_keys() {
    for (const std::string_view key : kHealthKeys) {
      if (knows(key)) continue;
      if (const auto useless = find(key)) {
        reader_.error(*useless,
                      "has no meaning with type " + std::string(type_) + "; remove it or change the type");
      }
    }
  }

  model::HealthKind read_none() { return model::NoCheck{}; }
  model::HealthKind read_icmp() { return model::IcmpCheck{}; }
  model::HealthKind read_quic() { return model::QuicCheck{}; }

  model::HealthKind read_exec() { return read_command_check(field_, reader_); }

  model::HealthKind read_tcp() {
    model::TcpCheck check;
    if (const auto send = find("send")) put(reader_.bytes(*send, kMaxBytes), &check.send);
    if (const auto expect = find("expect")) put(reader_.bytes(*expect, kMaxBytes), &check.expect);
    return check;
  }

  model::HealthKind read_udp() {
    model::UdpCheck check;
    if (const auto send = reader_.require(field_, "send")) put(reader_.bytes(*send, kMaxBytes), &check.send);
    if (const auto expect = find("expect")) put(reader_.bytes(*expect, kMaxBytes), &check.expect);
    return check;
  }

  model::HealthKind read_tls_check() { return model::TlsCheck{read_tls().value_or(model::TlsOptions{})}; }

  model::HealthKind read_http() {
    model::HttpCheck check;
    if (const auto method = find("method")) {
      put(reader_.choice<std::string>(*method, {{"GET", "GET"}, {"HEAD", "HEAD"}, {"OPTIONS", "OPTIONS"}}),
          &check.method);
    }
    read_path(&check.path);
    read_host(&check.host);
    if (const auto headers = find("headers")) read_headers(*headers, &check);
    if (const auto status = find("status")) read_statuses(*status, &check.statuses);
    if (const auto body = find("body")) {
      put(reader_.bytes(*body, kMaxBytes), &check.body);
      if (check.method == "HEAD") {
        reader_.error(*body,
                      "has no meaning with method HEAD, whose answers have no body; remove it or "
                      "change the method");
      }
    }
    if (const auto version = find("version")) {
      using enum model::HttpVersion;
      put(reader_.choice<model::HttpVersion>(*version, {{"1.1", kHttp1}, {"2", kHttp2}}), &check.version);
    }
    return check;
  }

  model::HealthKind read_https() {
    model::HealthKind kind = read_http();
    std::get<model::HttpCheck>(kind).tls = read_tls().value_or(model::TlsOptions{});
    return kind;
  }

  model::HealthKind read_grpc() {
    model::GrpcCheck check;
    check.tls = read_tls();
    if (const auto service = find("service")) put(reader_.word(*service, kMaxTextLength), &check.service);
    return check;
  }

  model::HealthKind read_websocket() {
    model::WebsocketCheck check;
    check.tls = read_tls();
    read_path(&check.path);
    read_host(&check.host);
    return check;
  }

  model::HealthKind read_dns() {
    model::DnsCheck check;
    if (const auto name = reader_.require(field_, "name"))
      put(reader_.word(*name, kMaxHostLength), &check.name);
    if (const auto record = find("record"))
      put(reader_.choice<uint16_t>(*record, {kRecordTypes.begin(), kRecordTypes.end()}), &check.record_type);
    if (const auto code = find("code"))
      put(reader_.choice<uint16_t>(*code, {kDnsCodes.begin(), kDnsCodes.end()}), &check.code);
    if (const auto answer = find("answer")) check.answer = read_answer(*answer, check.record_type);
    if (const auto transport = find("transport")) {
      using enum model::DnsTransport;
      put(reader_.choice<model::DnsTransport>(*transport, {{"udp", kUdp}, {"tcp", kTcp}}), &check.transport);
    }
    return check;
  }

  std::string read_answer(const Field &field, uint16_t record_type) {
    const auto address = reader_.address(field);
    if (!address) return "";
    constexpr uint16_t kRecordA = 1;
    constexpr uint16_t kRecordAaaa = 28;
    const uint16_t fitting = address_is_ipv4(&*address) ? kRecordA : kRecordAaaa;
    if (record_type != fitting) {
      reader_.error(field, in_quotes(field.node->text) +
                               " is in no answer of this record type; set record: " +
                               (fitting == kRecordA ? "a" : "aaaa"));
    }
    return format_address(*address);
  }

  model::HealthKind read_mqtt() {
    model::MqttCheck check;
    check.tls = read_tls();
    if (const auto id = find("client_id")) put(reader_.word(*id, kMaxTextLength), &check.client_id);
    if (const auto name = find("username")) put(reader_.word(*name, kMaxTextLength), &check.username);
    if (const auto file = find("password_file")) {
      put(reader_.word(*file, kMaxFilePathLength), &check.password_file);
      // MQTT 3.1.1 section 3.1.2.9
      if (!find("username")) reader_.error(*file, "has no meaning without username; add it or remove this");
    }
    return check;
  }

  void read_path(std::string *path) {
    const auto field = find("path");
    if (!field) return;
    put(reader_.word(*field, kMaxPathLength), path);
    if (!path->starts_with('/')) {
      reader_.error(*field, in_quotes(*path) + " is no path; allowed: what begins with \"/\"");
    }
  }

  void read_host(std::string *host) {
    if (const auto field = find("host")) put(reader_.word(*field, kMaxHostLength), host);
  }

  void read_headers(const Field &field, model::HttpCheck *check) {
    if (!reader_.is_list(field) || !is_short(field)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) {
      auto header = reader_.header(field.item(i), kMaxPathLength);
      if (!header) continue;
      refuse_own_header(field.item(i), header->first);
      check->headers.push_back(std::move(*header));
    }
  }

  // A second one, or another one, breaks the request.
  void refuse_own_header(const Field &field, const std::string &name) {
    const bool own = std::ranges::any_of(kOwnHeaders, [&](auto each) { return is_same_header(name, each); });
    if (!own) return;
    reader_.error(field, in_quotes(name) + " is a header that the check writes itself; " +
                             (is_same_header(name, "Host") ? "use host" : "remove it"));
  }

  bool is_short(const Field &list) {
    if (list.node->items.size() <= kMaxListLength) return true;
    reader_.error(list, "has " + std::to_string(list.node->items.size()) + " elements; allowed: up to " +
                            std::to_string(kMaxListLength));
    return false;
  }

  void read_statuses(const Field &field, std::vector<model::NumberRange> *statuses) {
    const auto read_one = [&](const Field &one) {
      const auto range = reader_.range(one, 100, 599, "an HTTP status or a range of them");
      if (range) statuses->push_back({range->first, range->second});
    };
    statuses->clear();
    if (field.node->kind != YamlKind::kList) return read_one(field);
    if (field.node->items.empty())
      return reader_.error(field, "is empty; name a status, or leave the key out");
    if (!is_short(field)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) read_one(field.item(i));
  }

  std::optional<model::TlsOptions> read_tls() {
    const auto field = find("tls");
    return field ? read_tls_options(*field, reader_) : std::nullopt;
  }

  void read_port(model::HealthSpec *health) {
    const auto port = find("port");
    if (!port) return;  // check_ports.h
    const auto number = reader_.number(*port, 1, 65535);
    if (number) health->port = static_cast<uint16_t>(*number);
  }

  void read_source(const Field &field, model::HealthSpec *health) {
    if (!reader_.is_list(field)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) {
      const Field item = field.item(i);
      const auto address = reader_.address(item);
      if (!address) continue;
      std::optional<Address> &place = address_is_ipv4(&*address) ? health->source_ipv4 : health->source_ipv6;
      if (place)
        reader_.error(item, in_quotes(item.node->text) +
                                " is the second address of its family; one of each is allowed");
      place = *address;
    }
  }

  void read_pace(model::HealthSpec *health) {
    milliseconds longest = health->interval;  // of a timeout: a slower check would meet the next one
    if (const auto interval = find("interval")) {
      const auto read = reader_.duration(*interval, kMinInterval, kMaxInterval);
      put(read, &health->interval);
      longest = read.value_or(kMaxInterval);  // of one that cannot be read nothing follows
    }
    health->fast_interval = std::max(health->interval / 2, kMinInterval);
    if (const auto fast = find("fast_interval")) {
      put(reader_.duration(*fast, kMinInterval, longest), &health->fast_interval);
    }
    health->timeout = std::min(health->timeout, longest);
    if (const auto timeout = find("timeout")) put(reader_.duration(*timeout, 1ms, longest), &health->timeout);
    const auto read_number = [&](std::string_view key, uint32_t min, uint32_t max, uint16_t *place) {
      const auto field = find(key);
      if (!field) return;
      if (const auto number = reader_.number(*field, min, max)) *place = static_cast<uint16_t>(*number);
    };
    read_number("jitter", 0, kMaxJitterPercent, &health->jitter_percent);
    read_number("rise", 1, 100, &health->rise);
    read_number("fall", 1, 100, &health->fall);
  }

  const Field &field_;
  FieldReader &reader_;
  std::string_view type_;
};

}  // namespace

model::HealthSpec read_health(const Field &field, FieldReader &reader) {
  return HealthReader(field, reader).read();
}

std::span<const std::string_view> health_keys() { return kHealthKeys; }

}  // namespace sluice
