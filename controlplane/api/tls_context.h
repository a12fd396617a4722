// The API's side of TLS: certificate, authorities and policy; and who a client's certificate is for.
#ifndef SLUICE_CONTROLPLANE_API_TLS_CONTEXT_H
#define SLUICE_CONTROLPLANE_API_TLS_CONTEXT_H

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/ssl/context.hpp>

#include "controlplane/model/api_access.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

/// Reads certificate, key and client_ca. Errors name the field, the file and what is wrong with it. A
/// certificate that is no longer valid is taken, and said in the log.
Result<TlsContext> make_tls_context(const model::ApiSpec &spec);

/// CN and subjectAltNames (DNS, e-mail, URI) of the client's certificate, which was verified; empty when it
/// showed none.
std::vector<std::string> certificate_names(SSL *ssl);

/// Why a handshake failed: what was wrong with the client's certificate, or else `error`.
std::string handshake_failure(SSL *ssl, const boost::system::error_code &error);

}  // namespace sluice::api

#endif
