// The API by HTTPS: TLS over TCP, on any number of addresses, for clients that nobody knows until they say
// who they are.
#ifndef SLUICE_CONTROLPLANE_API_HTTPS_SERVER_H
#define SLUICE_CONTROLPLANE_API_HTTPS_SERVER_H

#include <memory>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "controlplane/api/connection.h"
#include "controlplane/api/gate.h"
#include "controlplane/api/tls_context.h"
#include "controlplane/model/api_access.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

/// A socket that listens. Nothing is accepted until a server uses it.
struct BoundAddress {
  model::ListenAddress address;
  boost::asio::ip::tcp::acceptor acceptor;
};

/// Binds each of `wanted` that is not in `bound` already. The error names the address, and binds none of
/// them.
Result<std::vector<BoundAddress>> bind_addresses(boost::asio::io_context &io,
                                                 const std::vector<model::ListenAddress> &wanted,
                                                 const std::vector<model::ListenAddress> &bound);

/// Used by the io_context's thread. A connection beyond the limit takes the place of the stranger that has
/// been there longest, or is closed; so is one beyond its address's limit.
class HttpsServer {
 public:
  /// `gate` must outlive it. Listens nowhere until use().
  HttpsServer(boost::asio::io_context &io, Gate &gate, Handler handler);

  /// From now on listens on `spec.listen`: `added` are those addresses where it did not before. Connections
  /// that are not being served end, as they were begun with the `tls` of before; the others end after their
  /// answer.
  void use(const model::ApiSpec &spec, TlsContext tls, std::vector<BoundAddress> added);

  /// Ends all connections.
  ~HttpsServer();
  HttpsServer(const HttpsServer &) = delete;
  HttpsServer &operator=(const HttpsServer &) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sluice::api

#endif
