// Where the REST API listens and who may do what by it: "api" of the configuration.
#ifndef SLUICE_CONTROLPLANE_MODEL_API_ACCESS_H
#define SLUICE_CONTROLPLANE_MODEL_API_ACCESS_H

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/address_text.h"
#include "controlplane/model/health_check.h"

namespace sluice::model {

/// Each may do what those before it may. There is none of value 0, so that a role that nobody gave is none.
enum class Role : uint8_t {
  kViewer = 1,    // reads
  kOperator = 2,  // drains, maintenance, registrations
  kAdmin = 3,     // everything
};

constexpr std::string_view role_name(Role role) {
  constexpr std::array<std::string_view, 4> kNames = {"none", "viewer", "operator", "admin"};
  return kNames.at(static_cast<size_t>(role));
}

/// What an identity may do.
struct Grant {
  Role role = Role::kViewer;
  std::optional<std::vector<std::string>> services;  // it is about these alone; absent: about everything

  bool operator==(const Grant &) const = default;
};

/// Where HTTPS is spoken.
struct ListenAddress {
  Address address{};
  uint16_t l4_port = 0;

  bool operator==(const ListenAddress &) const = default;
};

/// Who shows a certificate with this name: its subject's CN, or a DNS name, e-mail address or URI of its
/// subjectAltName.
struct CertificateGrant {
  std::string certificate;
  Grant grant;

  bool operator==(const CertificateGrant &) const = default;
};

/// Whose process is on the other end of the Unix socket; one of `user` and `group`, a name or a number.
struct LocalGrant {
  std::string user;
  std::string group;
  Grant grant;

  bool operator==(const LocalGrant &) const = default;
};

/// Of the HTTPS side; the Unix socket shares the times, and the rate of requests of each user.
struct ApiLimits {
  uint32_t connections = 256;
  uint32_t connections_per_address = 32;  // an IPv6 address counts as its /64
  uint32_t requests_per_second = 100;     // of one identity
  uint32_t failures_per_minute = 20;      // of one address: refused certificates and tokens
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds idle_timeout{60'000};

  bool operator==(const ApiLimits &) const = default;
};

struct ApiSpec {
  std::string socket_group;     // of the Unix socket; empty: sluiced's own
  uint32_t socket_mode = 0660;  // permission bits
  std::vector<LocalGrant> local;
  bool has_local = false;  // without the list whoever may open the socket is admin

  std::vector<ListenAddress> listen;  // empty: no HTTPS
  std::string certificate_file;
  std::string key_file;
  std::string client_ca_file;  // empty: no certificates of clients
  std::string tokens_file;     // empty: no tokens
  TlsVersion min_tls_version = TlsVersion::kTls12;
  std::vector<CertificateGrant> clients;
  ApiLimits limits;

  bool operator==(const ApiSpec &) const = default;
};

/// One line of tokens_file: what is known of a token that somebody has.
struct ApiToken {
  std::string name;
  Grant grant;
  std::optional<int64_t> expires_unix_s;  // from then on it is worth nothing; absent: never
  std::array<uint8_t, 32> sha256{};       // of the token's text
};

}  // namespace sluice::model

#endif
