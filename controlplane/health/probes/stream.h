// A connection to a backend, with TLS on it or without, which a check's deadline closes.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_STREAM_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_STREAM_H

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

#include "controlplane/health/probes/deadline.h"
#include "controlplane/health/probes/probe.h"

namespace sluice {

/// For one check, on its loop. Every step ends the check when it fails or the check's time is up, with a text
/// that says how far it came.
class ProbeStream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using TlsStream = boost::asio::ssl::stream<Socket &>;

  /// The check's time begins now. `spec` must outlive it.
  ProbeStream(ProbeContext &context, const CheckSpec &spec);

  /// The TCP handshake, and the one of TLS if the kind of check has it.
  ProbeStep connect();
  /// Says goodbye to a server that asked for the client's certificate, and waits for its verdict on that:
  /// under TLS 1.3 it comes after what the client takes for the end of the handshake (RFC 8446
  /// section 4.4.2.4). A server that goes on instead, closes, or is silent for a while has accepted it: who
  /// refuses says so.
  ProbeStep wait_for_verdict();
  ProbeStep write(std::string_view bytes);
  /// Appends at least one byte, and at most so many that `bytes` has `most`.
  ProbeStep read_some(std::string *bytes, size_t most);

  /// What the next steps wait for, as the text of a failure says it.
  enum class Awaited : uint8_t { kConnection, kTlsHandshake, kAnswer, kRestOfAnswer, kPong };
  void await(Awaited awaited) { awaited_ = awaited; }

  /// How a step on the sockets below ended that a library made.
  Ended judge(const boost::system::error_code &error);

  /// Whether the check's time is up.
  bool expired() const { return deadline_.expired(); }

  /// "TLSv1.3"; empty without TLS.
  std::string tls_version() const;

  Socket &socket() { return socket_; }
  TlsStream *tls() { return tls_.get(); }  // nullptr: without

 private:
  ProbeStep handshake(const model::TlsOptions &options);

  ProbeContext &context_;
  const CheckSpec &spec_;
  Socket socket_;
  std::shared_ptr<boost::asio::ssl::context> tls_context_;
  std::unique_ptr<TlsStream> tls_;
  TlsExpectation expectation_;
  Deadline deadline_;
  Awaited awaited_ = Awaited::kConnection;
};

}  // namespace sluice

#endif
