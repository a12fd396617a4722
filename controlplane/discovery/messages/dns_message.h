// Answers of DNS servers (RFC 1035, RFC 2782, RFC 3596), without I/O.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_DNS_MESSAGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_DNS_MESSAGE_H

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct DnsTarget {
  std::string name;  // in lower case, without a dot at its end; empty: the service is not offered
  uint16_t priority = 0;
  uint16_t weight = 0;
  uint16_t l4_port = 0;
};

/// What the answer section has.
struct DnsRecords {
  std::vector<Address> addresses;  // of A and AAAA, in the answer's order
  std::vector<DnsTarget> targets;  // of SRV
  std::chrono::seconds ttl{0};     // the smallest of all records, those of CNAME too; 0: there are none
};

/// Any bytes are safe: a message that is cut or has no such form is an error.
Result<DnsRecords> parse_dns_answer(std::string_view message);

/// The backends that addresses stand for, each named by itself. One that is no destination is skipped.
Answer address_backends(const std::vector<Address> &addresses, uint16_t weight);

/// The backends of a service: each address of a target is one, with the target's weight, priority and port.
/// A target without an address is skipped. Weights are in Sluice's scale; `weight` where they are all equal.
Answer target_backends(const std::vector<DnsTarget> &targets,
                       const std::map<std::string, std::vector<Address>> &addresses, uint16_t weight);

}  // namespace sluice

#endif
