// How the backends of a pool are checked: what the operator wrote, with every default filled in.
#ifndef SLUICE_CONTROLPLANE_MODEL_HEALTH_CHECK_H
#define SLUICE_CONTROLPLANE_MODEL_HEALTH_CHECK_H

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "dataplane/abi/address.h"

namespace sluice::model {

/// Both included.
struct NumberRange {
  uint16_t first = 0;
  uint16_t last = 0;

  bool operator==(const NumberRange &) const = default;
  bool contains(long number) const { return number >= first && number <= last; }
};

/// Layer 4.
enum class Protocol : uint8_t { kTcp, kUdp };

enum class TlsVersion : uint8_t { kTls12, kTls13 };

/// How a check speaks TLS, and what it asks of the certificate. Files are PEM.
struct TlsOptions {
  bool verify = true;            // the chain, the name and the dates
  std::string server_name;       // SNI and the certificate's name; empty: its address, without SNI
  std::string ca_file;           // empty: the system's authorities
  std::string certificate_file;  // the client's, with key_file; empty: none
  std::string key_file;
  TlsVersion min_version = TlsVersion::kTls12;
  std::chrono::hours min_validity{0};  // how long the certificate must still be valid

  bool operator==(const TlsOptions &) const = default;
};

/// Always up.
struct NoCheck {
  bool operator==(const NoCheck &) const = default;
};

/// An echo request, and the reply (RFC 792, RFC 4443).
struct IcmpCheck {
  bool operator==(const IcmpCheck &) const = default;
};

/// A handshake; then `send`, and an answer that contains `expect`. Bytes.
struct TcpCheck {
  std::string send;
  std::string expect;

  bool operator==(const TcpCheck &) const = default;
};

/// A TLS handshake.
struct TlsCheck {
  TlsOptions tls;

  bool operator==(const TlsCheck &) const = default;
};

enum class HttpVersion : uint8_t { kHttp1, kHttp2 };

/// One request, whose answer has one of `statuses` and contains `body`.
struct HttpCheck {
  std::optional<TlsOptions> tls;  // https
  HttpVersion version = HttpVersion::kHttp1;
  std::string method = "GET";
  std::string path = "/";                                    // the request target, beginning with '/'
  std::string host;                                          // empty: the server name, or the address
  std::vector<std::pair<std::string, std::string>> headers;  // name, value
  std::vector<NumberRange> statuses = {{200, 399}};
  std::string body;

  bool operator==(const HttpCheck &) const = default;
};

/// grpc.health.v1.Health/Check of `service`; empty: the server as a whole.
struct GrpcCheck {
  std::optional<TlsOptions> tls;
  std::string service;

  bool operator==(const GrpcCheck &) const = default;
};

/// An upgrade (RFC 6455) whose Sec-WebSocket-Accept is right; a ping and its pong.
struct WebsocketCheck {
  std::optional<TlsOptions> tls;
  std::string path = "/";
  std::string host;  // empty: the server name, or the address

  bool operator==(const WebsocketCheck &) const = default;
};

enum class DnsTransport : uint8_t { kUdp, kTcp };

/// One query (RFC 1035).
struct DnsCheck {
  DnsTransport transport = DnsTransport::kUdp;
  std::string name;          // asked for; "." is the root
  uint16_t record_type = 1;  // as IANA numbers them: 1 is A
  uint16_t code = 0;         // the expected RCODE
  std::string answer;        // an address that the answer must have; empty: any

  bool operator==(const DnsCheck &) const = default;
};

/// A datagram, and one that answers it and contains `expect`. Bytes.
struct UdpCheck {
  std::string send;
  std::string expect;  // empty: any answer

  bool operator==(const UdpCheck &) const = default;
};

/// A packet of a version that nobody speaks, and the server's list of those it does (RFC 8999, RFC 9000
/// section 6).
struct QuicCheck {
  bool operator==(const QuicCheck &) const = default;
};

/// CONNECT, and a CONNACK that accepts it (MQTT 3.1.1).
struct MqttCheck {
  std::optional<TlsOptions> tls;
  std::string client_id;      // empty: the server makes one
  std::string username;       // empty: none
  std::string password_file;  // its first line is the password; empty: none

  bool operator==(const MqttCheck &) const = default;
};

/// What a command's arguments may name: it is replaced by what it stands for.
inline constexpr std::array<std::string_view, 4> kCommandPlaceholders = {"{address}", "{port}", "{pool}",
                                                                         "{backend}"};

/// A command in a sandbox, which ends with exit status 0.
struct ExecCheck {
  std::vector<std::string> command;   // an absolute path, and its arguments; no shell
  std::vector<std::string> readable;  // what it may read besides /usr: absolute paths

  bool operator==(const ExecCheck &) const = default;
};

using HealthKind = std::variant<NoCheck, IcmpCheck, TcpCheck, TlsCheck, HttpCheck, GrpcCheck, WebsocketCheck,
                                DnsCheck, UdpCheck, QuicCheck, MqttCheck, ExecCheck>;

/// How a pool's backends are checked. With NoCheck nothing else counts.
struct HealthSpec {
  HealthKind kind = NoCheck{};
  uint16_t port = 0;                   // layer 4, on the backend's address; 0: the kind has none
  std::optional<Address> source_ipv4;  // the address that a check comes from; absent: the kernel's choice
  std::optional<Address> source_ipv6;
  // Asked instead of the backend, through the data path and the backend's pin; with a source of its family.
  std::optional<Address> vip;
  std::chrono::milliseconds interval{1000};
  std::chrono::milliseconds fast_interval{500};  // while a state is changing; at most `interval`
  std::chrono::milliseconds timeout{500};        // at most `interval`
  uint16_t jitter_percent = 0;  // of the interval: each wait is longer or shorter by up to that
  uint16_t rise = 2;            // successes in a row that bring a backend up
  uint16_t fall = 3;            // failures in a row that take a backend down

  bool operator==(const HealthSpec &) const = default;
  bool checks() const { return !std::holds_alternative<NoCheck>(kind); }
};

/// What a type is called in the configuration and in `sluicectl`'s answers: "http", "https".
std::string_view health_kind_name(const HealthKind &kind);

/// Whether a check of this kind needs a layer 4 port: a command does whose arguments name it.
bool needs_port(const HealthKind &kind);

/// Whether a check of this kind can be told a layer 4 port.
bool has_port(const HealthKind &kind);

/// What the packets of a kind with a port are.
Protocol transport_of(const HealthKind &kind);

/// The TLS options of a kind that has them now; nullptr: it speaks without.
const TlsOptions *tls_of(const HealthKind &kind);

}  // namespace sluice::model

#endif
