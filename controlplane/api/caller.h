// Who is on the other end of a connection, and who a request comes from.
#ifndef SLUICE_CONTROLPLANE_API_CALLER_H
#define SLUICE_CONTROLPLANE_API_CALLER_H

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "controlplane/model/api_access.h"

namespace sluice::api {

/// A process on this host, as the kernel knows it (SO_PEERCRED).
struct LocalPeer {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<gid_t> groups;  // its own and the supplementary ones
};

/// The other end of one connection.
struct Peer {
  std::string text;       // "192.0.2.1:40000", "uid 1000 pid 77": for the audit log
  std::string limit_key;  // what limits count by: an IPv4 address, an IPv6 /64, "uid 1000"
  std::optional<LocalPeer> local;
  std::vector<std::string> certificate_names;  // of a verified certificate: its CN and subjectAltNames
};

/// Who a request comes from.
struct Caller {
  std::string identity;               // "ci", "monitor.example.com", "uid 1000"; empty: nobody is known
  std::string method;                 // "token", "certificate", "unix"
  std::string from;                   // Peer::text
  std::optional<model::Grant> grant;  // absent: only what is open to everybody
};

}  // namespace sluice::api

#endif
