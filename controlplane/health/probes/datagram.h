// A socket for datagrams to and from one backend, which a check's deadline closes.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_DATAGRAM_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_DATAGRAM_H

#include <string>
#include <string_view>

#include <boost/asio/generic/datagram_protocol.hpp>

#include "controlplane/health/probes/deadline.h"
#include "controlplane/health/probes/probe.h"

namespace sluice {

/// For one check, on its loop. Every step ends the check when it fails or the check's time is up.
class ProbeDatagram {
 public:
  /// `ip_protocol` is IPPROTO_UDP, IPPROTO_ICMP or IPPROTO_ICMPV6. The check's time begins now; `spec` must
  /// outlive it.
  ProbeDatagram(ProbeContext &context, const CheckSpec &spec, int ip_protocol);

  /// Opens the socket. Of UDP only what comes from the backend is received, but a socket for echo requests
  /// gets all replies of its identifier to its local address: see receive().
  Ended open();
  ProbeStep send(std::string_view bytes);
  /// The next datagram, whole, up to kMaxAnswerBytes; and who sent it, if `sender` is not nullptr.
  ProbeStep receive(std::string *bytes, Address *sender = nullptr);

 private:
  Ended judge(const boost::system::error_code &error);

  ProbeContext &context_;
  const CheckSpec &spec_;
  int ip_protocol_;
  boost::asio::generic::datagram_protocol::socket socket_;
  Deadline deadline_;
};

}  // namespace sluice

#endif
