// TLS settings of checks, made once and shared by all backends of a pool.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_TLS_CONTEXTS_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_TLS_CONTEXTS_H

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/ssl/context.hpp>
#include <openssl/ssl.h>

#include "controlplane/model/health_check.h"
#include "dataplane/abi/address.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// What is asked of a server's certificate, and what was found wrong with it.
struct TlsExpectation {
  const model::TlsOptions *options = nullptr;
  std::string name;                    // of the server, or its address
  bool asked_for_certificate = false;  // by the server, of the client
  unsigned long alert = 0;             // by which the server ended the connection, as an error of OpenSSL
  std::string failure;                 // of the certificate; empty: none
};

/// Not thread-safe.
class TlsContexts {
 public:
  using Clock = std::chrono::steady_clock;
  using Made = Result<std::shared_ptr<boost::asio::ssl::context>>;

  /// The settings that `options` ask for: versions, authorities, the client's certificate. Read from the
  /// files again when one of them has changed, or has been bad for a while. Errors name the file, and what
  /// is wrong with it.
  Made get(const model::TlsOptions &options, Clock::time_point now = Clock::now());

 private:
  struct Kept {
    std::string file_times;
    Made made;
    Clock::time_point made_at;
    Clock::time_point used_at;
  };
  void drop_unused(Clock::time_point now);

  std::map<std::string, Kept> kept_;  // by the options' text
  Clock::time_point dropped_at_;
};

/// Makes `ssl`, of a context of TlsContexts, ask `address` for the certificate that `expectation` wants,
/// which must outlive it.
void expect_certificate(SSL *ssl, TlsExpectation *expectation, const Address &address);

/// The same for a context that somebody else made for one connection: it gets the settings of `ours`, too.
void expect_certificate(SSL_CTX *theirs, SSL_CTX *ours, TlsExpectation *expectation, const Address &address);

/// Why a handshake failed, in words: "certificate has expired", "certificate ends in 3h, 168h
/// wanted". `error` is OpenSSL's, of ERR_get_error(); 0: the connection was closed.
std::string tls_failure_text(const TlsExpectation &expectation, unsigned long error);

}  // namespace sluice

#endif
