#include "controlplane/config/api_reader.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "controlplane/config/host_port.h"
#include "controlplane/config/tls_reader.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr size_t kMaxListen = 16;
constexpr size_t kMaxGrants = 1024;
constexpr size_t kMaxGrantedServices = 1024;
constexpr size_t kMaxNameLength = 255;  // of a certificate's name
constexpr size_t kMaxAccountLength = 32;
constexpr uint32_t kMaxConnections = 65'536;
constexpr uint32_t kMaxRate = 1'000'000;
constexpr milliseconds kMinTimeout = 100ms;
constexpr milliseconds kMaxTimeout = 10min;

constexpr std::array<std::string_view, 10> kApiKeys = {
    "socket",    "local",       "listen",          "certificate", "key",
    "client_ca", "tokens_file", "min_tls_version", "clients",     "limits"};
constexpr std::array<std::string_view, 2> kSocketKeys = {"group", "mode"};
constexpr std::array<std::string_view, 3> kClientKeys = {"certificate", "role", "services"};
constexpr std::array<std::string_view, 4> kLocalKeys = {"user", "group", "role", "services"};
constexpr std::array<std::string_view, 7> kLimitKeys = {"connections",         "connections_per_address",
                                                        "requests_per_second", "failures_per_minute",
                                                        "header_timeout",      "body_timeout",
                                                        "idle_timeout"};

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

class ApiReader {
 public:
  ApiReader(const Field &field, FieldReader &reader) : field_(field), reader_(reader) {}

  PlacedApi read() {
    if (!reader_.is_map(field_, kApiKeys)) return std::move(placed_);
    if (const auto socket = find("socket")) read_socket(*socket);
    if (const auto local = find("local")) read_local(*local);
    if (const auto listen = find("listen")) read_listen(*listen);
    read_files();
    if (const auto version = find("min_tls_version")) {
      using enum model::TlsVersion;
      put(reader_.choice<model::TlsVersion>(*version, {{"1.2", kTls12}, {"1.3", kTls13}}),
          &spec().min_tls_version);
    }
    if (const auto clients = find("clients")) read_clients(*clients);
    if (const auto limits = find("limits")) read_limits(*limits);
    if (const auto socket = find("socket"); socket && spec().socket_mode == 0666 && !spec().has_local)
      reader_.error(*socket,
                    "mode 0666 lets every process of this host be admin; say with api.local who may do what");
    check_https();
    return std::move(placed_);
  }

 private:
  model::ApiSpec &spec() { return placed_.spec; }
  std::optional<Field> find(std::string_view key) const { return FieldReader::find(field_, key); }

  bool is_list_of(const Field &list, size_t min, size_t max) {
    if (!reader_.is_list(list)) return false;
    const size_t count = list.node->items.size();
    if (count >= min && count <= max) return true;
    reader_.error(list, "has " + std::to_string(count) + " elements; allowed: " + std::to_string(min) +
                            " to " + std::to_string(max));
    return false;
  }

  void read_socket(const Field &socket) {
    if (!reader_.is_map(socket, kSocketKeys)) return;
    if (const auto group = FieldReader::find(socket, "group"))
      put(reader_.word(*group, kMaxAccountLength), &spec().socket_group);
    if (const auto mode = FieldReader::find(socket, "mode")) {
      put(reader_.choice<uint32_t>(*mode, {{"0600", 0600}, {"0660", 0660}, {"0666", 0666}}),
          &spec().socket_mode);
    }
  }

  void read_local(const Field &local) {
    if (!is_list_of(local, 0, kMaxGrants)) return;
    spec().has_local = true;
    for (size_t i = 0; i < local.node->items.size(); ++i) {
      const Field item = local.item(i);
      if (!reader_.is_map(item, kLocalKeys)) continue;
      model::LocalGrant grant;
      const auto user = FieldReader::find(item, "user");
      const auto group = FieldReader::find(item, "group");
      if (user.has_value() == group.has_value()) reader_.error(item, "needs one of user and group");
      if (user) put(reader_.word(*user, kMaxAccountLength), &grant.user);
      if (group) put(reader_.word(*group, kMaxAccountLength), &grant.group);
      grant.grant = read_grant(item, reader_, &placed_.granted);
      spec().local.push_back(std::move(grant));
    }
  }

  void read_listen(const Field &listen) {
    if (!is_list_of(listen, 1, kMaxListen)) return;
    for (size_t i = 0; i < listen.node->items.size(); ++i) {
      const Field item = listen.item(i);
      const auto text = reader_.scalar(item);
      if (!text) continue;
      const auto split = split_host_port(*text);
      const auto address = split ? parse_address(split->host) : std::nullopt;
      const bool is_written_well = address && split->bracketed != address_is_ipv4(&*address);
      if (!is_written_well || !split->l4_port) {
        reader_.error(item, in_quotes(*text) +
                                " is no address with a port; allowed: \"192.0.2.1:8443\" or "
                                "\"[2001:db8::1]:8443\", with 0.0.0.0 and :: for every address of the host");
        continue;
      }
      const model::ListenAddress listened{*address, *split->l4_port};
      if (std::ranges::find(spec().listen, listened) != spec().listen.end())
        reader_.error(item, in_quotes(*text) + " is there twice; remove one of them");
      spec().listen.push_back(listened);
    }
  }

  void read_files() {
    const std::pair<std::string_view, std::string *> files[] = {{"certificate", &spec().certificate_file},
                                                                {"key", &spec().key_file},
                                                                {"client_ca", &spec().client_ca_file},
                                                                {"tokens_file", &spec().tokens_file}};
    for (const auto &[key, file] : files)
      if (const auto path = find(key)) put(reader_.word(*path, kMaxFilePathLength), file);
  }

  void read_clients(const Field &clients) {
    if (!is_list_of(clients, 0, kMaxGrants)) return;
    std::set<std::string> names;
    for (size_t i = 0; i < clients.node->items.size(); ++i) {
      const Field item = clients.item(i);
      if (!reader_.is_map(item, kClientKeys)) continue;
      model::CertificateGrant grant;
      if (const auto name = reader_.require(item, "certificate")) {
        put(reader_.word(*name, kMaxNameLength), &grant.certificate);
        if (!grant.certificate.empty() && !names.insert(grant.certificate).second)
          reader_.error(*name, in_quotes(grant.certificate) + " is there twice; remove one of them");
      }
      grant.grant = read_grant(item, reader_, &placed_.granted);
      spec().clients.push_back(std::move(grant));
    }
  }

  void read_limits(const Field &limits) {
    if (!reader_.is_map(limits, kLimitKeys)) return;
    model::ApiLimits &values = spec().limits;
    const std::pair<std::string_view, std::pair<uint32_t *, uint32_t>> numbers[] = {
        {"connections", {&values.connections, kMaxConnections}},
        {"connections_per_address", {&values.connections_per_address, kMaxConnections}},
        {"requests_per_second", {&values.requests_per_second, kMaxRate}},
        {"failures_per_minute", {&values.failures_per_minute, kMaxRate}}};
    for (const auto &[key, place] : numbers)
      if (const auto value = FieldReader::find(limits, key))
        put(reader_.number(*value, 1, place.second), place.first);
    const std::pair<std::string_view, milliseconds *> times[] = {{"header_timeout", &values.header_timeout},
                                                                 {"body_timeout", &values.body_timeout},
                                                                 {"idle_timeout", &values.idle_timeout}};
    for (const auto &[key, place] : times)
      if (const auto value = FieldReader::find(limits, key))
        put(reader_.duration(*value, kMinTimeout, kMaxTimeout), place);
  }

  // What HTTPS needs, and what has no meaning without it.
  void check_https() {
    if (!find("listen")) {
      for (const std::string_view key :
           {"certificate", "key", "client_ca", "tokens_file", "min_tls_version", "clients"}) {
        if (const auto useless = find(key))
          reader_.error(*useless, "has no meaning without listen; remove it, or say where HTTPS is spoken");
      }
      return;
    }
    for (const std::string_view key : {"certificate", "key"}) reader_.require(field_, key);
    if (!find("client_ca") && !find("tokens_file")) {
      reader_.error(field_, "has listen, but neither client_ca nor tokens_file: nobody could use the API");
    }
    if (const auto clients = find("clients"); clients && !find("client_ca"))
      reader_.error(*clients, "has no meaning without client_ca, which verifies the certificates");
  }

  const Field &field_;
  FieldReader &reader_;
  PlacedApi placed_;
};

}  // namespace

std::span<const std::string_view> api_keys() { return kApiKeys; }
std::span<const std::string_view> api_socket_keys() { return kSocketKeys; }
std::span<const std::string_view> api_client_keys() { return kClientKeys; }
std::span<const std::string_view> api_local_keys() { return kLocalKeys; }
std::span<const std::string_view> api_limit_keys() { return kLimitKeys; }

model::Grant read_grant(const Field &field, FieldReader &reader, std::vector<GrantedService> *granted) {
  model::Grant grant;
  using enum model::Role;
  if (const auto role = reader.require(field, "role")) {
    put(reader.choice<model::Role>(*role, {{"viewer", kViewer}, {"operator", kOperator}, {"admin", kAdmin}}),
        &grant.role);
  }
  const auto services = FieldReader::find(field, "services");
  if (!services || !reader.is_list(*services)) return grant;
  if (grant.role == kAdmin) {
    reader.error(*services, "has no meaning with role admin, which is about the whole host");
    return grant;
  }
  const size_t count = services->node->items.size();
  if (count == 0 || count > kMaxGrantedServices) {
    reader.error(*services, "has " + std::to_string(count) + " elements; allowed: 1 to " +
                                std::to_string(kMaxGrantedServices));
    return grant;
  }
  grant.services.emplace();
  for (size_t i = 0; i < count; ++i) {
    const Field item = services->item(i);
    const auto name = reader.name(item);
    if (!name) continue;
    grant.services->push_back(*name);
    granted->push_back({item.path(), {*name, item.node->place, i}});
  }
  return grant;
}

PlacedApi read_api(const Field &field, FieldReader &reader) { return ApiReader(field, reader).read(); }

}  // namespace sluice
