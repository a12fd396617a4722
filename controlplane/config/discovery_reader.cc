#include "controlplane/config/discovery_reader.h"

#include <algorithm>
#include <array>

#include "controlplane/config/host_port.h"
#include "controlplane/config/tls_reader.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr size_t kMaxTextLength = 255;
constexpr size_t kMaxServers = 16;
constexpr milliseconds kMinInterval = 100ms;
constexpr milliseconds kMaxInterval = 24h;
constexpr milliseconds kMaxTimeout = 5min;
constexpr milliseconds kMaxBackoff = 1h;
constexpr milliseconds kMaxLostHold = 1h;
constexpr uint32_t kMostBackends = kMaxBackends - 1;

constexpr std::array<std::string_view, 22> kDiscoveryKeys = {
    "type",      "interval", "timeout", "max_backoff",   "weight",     "min_backends", "max_lost_percent",
    "lost_hold", "path",     "name",    "record",        "servers",    "max_interval", "endpoints",
    "prefix",    "username", "service", "password_file", "datacenter", "tag",          "token_file",
    "tls"};

// Which types know a key that not all of them know.
struct KeyUse {
  std::string_view key;
  std::string_view types;
};
constexpr std::array<KeyUse, 17> kKeyUses = {{
    {"interval", "file dns etcd consul"},
    {"timeout", "dns etcd consul"},
    {"max_backoff", "file dns etcd consul"},
    {"path", "file"},
    {"name", "dns"},
    {"record", "dns"},
    {"servers", "dns"},
    {"max_interval", "dns"},
    {"endpoints", "etcd consul"},
    {"prefix", "etcd"},
    {"username", "etcd"},
    {"password_file", "etcd"},
    {"service", "consul"},
    {"datacenter", "consul"},
    {"tag", "consul"},
    {"token_file", "consul"},
    {"tls", "etcd consul"},
}};

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

bool has_word(std::string_view words, std::string_view word) {
  const std::string padded = " " + std::string(words) + " ";
  return padded.find(" " + std::string(word) + " ") != std::string::npos;
}

// "http://HOST:PORT" or "https://HOST:PORT".
bool is_endpoint(std::string_view text) {
  const size_t scheme = text.starts_with("http://") ? 7 : text.starts_with("https://") ? 8 : 0;
  if (scheme == 0) return false;
  const auto split = split_host_port(text.substr(scheme));
  if (!split || !split->l4_port) return false;
  const auto address = parse_address(split->host);
  if (!address) return !split->bracketed && is_host_name(split->host);
  return split->bracketed != address_is_ipv4(&*address);
}

class DiscoveryReader {
 public:
  DiscoveryReader(const Field &field, FieldReader &reader) : field_(field), reader_(reader) {}

  model::DiscoverySpec read() {
    model::DiscoverySpec spec;
    if (!reader_.is_map(field_, kDiscoveryKeys)) return spec;
    const auto type = reader_.require(field_, "type");
    if (!type) return spec;
    using Reader = model::SourceKind (DiscoveryReader::*)();
    const auto read_kind =
        reader_.choice<Reader>(*type, {{"file", &DiscoveryReader::read_file},
                                       {"dns", &DiscoveryReader::read_dns},
                                       {"etcd", &DiscoveryReader::read_etcd},
                                       {"consul", &DiscoveryReader::read_consul},
                                       {"registration", &DiscoveryReader::read_registration}});
    if (!read_kind) return spec;
    type_ = type->node->text;
    refuse_useless_keys();
    if (has_word("etcd consul", type_)) spec.interval = 1min;  // they tell changes themselves
    read_times(&spec);
    read_limits(&spec);
    interval_ = spec.interval;
    spec.kind = (this->**read_kind)();
    return spec;
  }

 private:
  std::optional<Field> find(std::string_view key) const { return FieldReader::find(field_, key); }

  // A key that the type of source never uses is a misunderstanding, not a decoration.
  void refuse_useless_keys() {
    for (const KeyUse &use : kKeyUses) {
      if (has_word(use.types, type_)) continue;
      if (const auto useless = find(use.key)) {
        reader_.error(*useless,
                      "has no meaning with type " + std::string(type_) + "; remove it or change the type");
      }
    }
  }

  void read_times(model::DiscoverySpec *spec) {
    const auto read_one = [&](std::string_view key, milliseconds min, milliseconds max, milliseconds *place) {
      if (const auto field = find(key)) put(reader_.duration(*field, min, max), place);
    };
    read_one("interval", kMinInterval, kMaxInterval, &spec->interval);
    read_one("timeout", 10ms, kMaxTimeout, &spec->timeout);
    read_one("max_backoff", kMinInterval, kMaxBackoff, &spec->max_backoff);
    read_one("lost_hold", 0ms, kMaxLostHold, &spec->lost_hold);
  }

  void read_limits(model::DiscoverySpec *spec) {
    if (const auto weight = find("weight")) {
      if (const auto number = reader_.number(*weight, 1, kMaxWeight))
        spec->weight = static_cast<uint16_t>(*number);
    }
    if (const auto least = find("min_backends"))
      put(reader_.number(*least, 0, kMostBackends), &spec->min_backends);
    if (const auto lost = find("max_lost_percent")) {
      if (const auto number = reader_.number(*lost, 0, 100))
        spec->max_lost_percent = static_cast<uint16_t>(*number);
    }
  }

  model::SourceKind read_file() {
    model::FileSource source;
    if (const auto path = reader_.require(field_, "path")) {
      put(reader_.word(*path, kMaxFilePathLength), &source.path);
      if (!source.path.empty() && !source.path.starts_with('/')) {
        reader_.error(*path, in_quotes(source.path) + " is no whole path; allowed: what begins with \"/\"");
      }
    }
    return source;
  }

  model::SourceKind read_dns() {
    model::DnsSource source;
    if (const auto name = reader_.require(field_, "name")) read_dns_name(*name, &source.name);
    if (const auto record = find("record")) {
      using enum model::DnsRecord;
      put(reader_.choice<model::DnsRecord>(
              *record, {{"address", kAddress}, {"a", kA}, {"aaaa", kAaaa}, {"srv", kSrv}}),
          &source.record);
    }
    if (const auto servers = find("servers")) read_servers(*servers, &source.servers);
    source.max_interval = std::max(source.max_interval, interval_);
    if (const auto longest = find("max_interval")) {
      put(reader_.duration(*longest, interval_, kMaxInterval), &source.max_interval);
    }
    return source;
  }

  void read_dns_name(const Field &field, std::string *name) {
    put(reader_.word(field, kMaxHostLength), name);
    const std::string_view relative =
        name->ends_with('.') ? std::string_view(*name).substr(0, name->size() - 1) : std::string_view(*name);
    if (!name->empty() && !is_host_name(relative)) {
      reader_.error(
          field, in_quotes(*name) + " is no name; allowed: letters, digits, \"-\", \"_\" and single \".\"");
    }
  }

  bool is_short_list(const Field &list) {
    if (!reader_.is_list(list)) return false;
    const size_t count = list.node->items.size();
    if (count >= 1 && count <= kMaxServers) return true;
    reader_.error(list,
                  "has " + std::to_string(count) + " elements; allowed: 1 to " + std::to_string(kMaxServers));
    return false;
  }

  void read_servers(const Field &field, std::vector<model::DnsServer> *servers) {
    if (!is_short_list(field)) return;
    for (size_t i = 0; i < field.node->items.size(); ++i) {
      const Field item = field.item(i);
      const auto text = reader_.scalar(item);
      if (!text) continue;
      const auto split = split_host_port(*text);
      const auto address = split ? parse_address(split->host) : std::nullopt;
      if (!address) {
        reader_.error(item, in_quotes(*text) +
                                " is no DNS server; allowed: an address, or one with a port as "
                                "192.0.2.1:5353 or \"[2001:db8::1]:5353\"");
        continue;
      }
      servers->push_back({*address, split->l4_port.value_or(53)});
    }
  }

  void read_endpoints(std::vector<std::string> *endpoints, std::optional<model::TlsOptions> *tls) {
    const auto field = reader_.require(field_, "endpoints");
    bool has_tls = false;
    if (field && is_short_list(*field)) {
      for (size_t i = 0; i < field->node->items.size(); ++i) {
        const Field item = field->item(i);
        const auto text = reader_.word(item, kMaxTextLength);
        if (!text) continue;
        if (!is_endpoint(*text)) {
          reader_.error(item, in_quotes(*text) +
                                  " is no endpoint; allowed: http://HOST:PORT or "
                                  "https://HOST:PORT, IPv6 in brackets");
          continue;
        }
        has_tls = has_tls || text->starts_with("https://");
        endpoints->push_back(*text);
      }
    }
    const auto options = find("tls");
    if (options) *tls = read_tls_options(*options, reader_);
    if (options && !has_tls) {
      reader_.error(*options, "has no meaning without an endpoint that begins with https://; remove it");
    }
    if (has_tls && !*tls) *tls = model::TlsOptions{};
  }

  model::SourceKind read_etcd() {
    model::EtcdSource source;
    read_endpoints(&source.endpoints, &source.tls);
    if (const auto prefix = reader_.require(field_, "prefix")) {
      put(reader_.word(*prefix, kMaxTextLength), &source.prefix);
    }
    const auto username = find("username");
    const auto password = find("password_file");
    if (username) put(reader_.word(*username, kMaxTextLength), &source.username);
    if (password) put(reader_.word(*password, kMaxFilePathLength), &source.password_file);
    if (username.has_value() != password.has_value()) {
      reader_.error(username ? *username : *password,
                    "is one of username and password_file; etcd wants both or none");
    }
    return source;
  }

  model::SourceKind read_consul() {
    model::ConsulSource source;
    read_endpoints(&source.endpoints, &source.tls);
    if (const auto service = reader_.require(field_, "service")) {
      put(reader_.word(*service, kMaxTextLength), &source.service);
    }
    if (const auto datacenter = find("datacenter"))
      put(reader_.word(*datacenter, kMaxTextLength), &source.datacenter);
    if (const auto tag = find("tag")) put(reader_.word(*tag, kMaxTextLength), &source.tag);
    if (const auto token = find("token_file"))
      put(reader_.word(*token, kMaxFilePathLength), &source.token_file);
    return source;
  }

  model::SourceKind read_registration() { return model::RegistrationSource{}; }

  const Field &field_;
  FieldReader &reader_;
  std::string_view type_;
  milliseconds interval_{0};
};

}  // namespace

model::DiscoverySpec read_discovery(const Field &field, FieldReader &reader) {
  return DiscoveryReader(field, reader).read();
}

std::span<const std::string_view> discovery_keys() { return kDiscoveryKeys; }

}  // namespace sluice
