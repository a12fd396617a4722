// Where the backends of a pool are learned from, beside the configuration's own list: what the operator
// wrote, with every default filled in.
#ifndef SLUICE_CONTROLPLANE_MODEL_DISCOVERY_H
#define SLUICE_CONTROLPLANE_MODEL_DISCOVERY_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/model/health_check.h"
#include "dataplane/abi/address.h"

namespace sluice::model {

/// Only the list in the configuration.
struct NoSource {
  bool operator==(const NoSource &) const = default;
};

/// A list of backends in YAML or JSON.
struct FileSource {
  std::string path;

  bool operator==(const FileSource &) const = default;
};

enum class DnsRecord : uint8_t { kAddress, kA, kAaaa, kSrv };

struct DnsServer {
  Address address{};
  uint16_t l4_port = 53;

  bool operator==(const DnsServer &) const = default;
};

/// The addresses of a name, or the targets of a service (RFC 2782).
struct DnsSource {
  std::string name;
  DnsRecord record = DnsRecord::kAddress;  // kAddress: A and AAAA
  std::vector<DnsServer> servers;          // empty: the system's
  std::chrono::milliseconds max_interval{300'000};

  bool operator==(const DnsSource &) const = default;
};

/// The keys below a prefix, by etcd's JSON gateway.
struct EtcdSource {
  std::vector<std::string> endpoints;  // "http://HOST:PORT"; at least one
  std::string prefix;
  std::optional<TlsOptions> tls;
  std::string username;  // empty: none
  std::string password_file;

  bool operator==(const EtcdSource &) const = default;
};

/// The passing instances of a service, by Consul's HTTP API.
struct ConsulSource {
  std::vector<std::string> endpoints;  // as EtcdSource's
  std::string service;
  std::string datacenter;  // empty: the agent's
  std::string tag;         // empty: any
  std::string token_file;  // empty: none
  std::optional<TlsOptions> tls;

  bool operator==(const ConsulSource &) const = default;
};

/// Backends say themselves that they are there, and go on saying it.
struct RegistrationSource {
  bool operator==(const RegistrationSource &) const = default;
};

using SourceKind =
    std::variant<NoSource, FileSource, DnsSource, EtcdSource, ConsulSource, RegistrationSource>;

/// How a pool's backends are found. With NoSource nothing else counts.
struct DiscoverySpec {
  SourceKind kind = NoSource{};
  std::chrono::milliseconds interval{5000};       // what it means depends on the kind
  std::chrono::milliseconds timeout{5000};        // of one question
  std::chrono::milliseconds max_backoff{30'000};  // between two tries of a source that fails
  uint16_t weight = 100;                          // of a backend of which the source says none
  uint32_t min_backends = 1;                      // an answer with fewer is refused
  uint16_t max_lost_percent = 50;  // an answer that takes more away has to stand for `lost_hold`
  std::chrono::milliseconds lost_hold{30'000};

  bool operator==(const DiscoverySpec &) const = default;
  bool finds() const { return !std::holds_alternative<NoSource>(kind); }
};

/// What a type is called in the configuration and in `sluicectl`'s answers: "dns".
std::string_view source_kind_name(const SourceKind &kind);

/// What is asked, in words: "dns web.example (srv)", "file /etc/sluice/web.yaml".
std::string source_text(const SourceKind &kind);

}  // namespace sluice::model

#endif
