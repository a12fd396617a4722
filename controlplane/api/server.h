// HTTP/1.1 on a Unix socket.
#ifndef SLUICE_CONTROLPLANE_API_SERVER_H
#define SLUICE_CONTROLPLANE_API_SERVER_H

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>

#include <boost/asio/io_context.hpp>

#include "controlplane/api/message.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

struct ServerOptions {
  std::filesystem::path socket_path = "/run/sluice/sluiced.sock";
  size_t max_connections = 64;         // more wait until one ends
  size_t max_header_bytes = 8 * 1024;  // more is answered with 431
  std::chrono::milliseconds request_timeout{
      10'000};  // from the connection or the last answer to a whole request
  std::chrono::milliseconds response_timeout{30'000};  // for a client to take an answer
};

/// Serves requests on the io_context's thread, several connections at a time, kept alive between
/// requests. A malformed request is answered with 400 and the connection closed; a slow one is cut off.
class Server {
 public:
  using Handler = std::function<Response(const Request &request)>;

  /// Binds (mode 0660) and begins to accept. A socket file that nobody listens on is replaced.
  /// Errors: somebody listens, the path is no socket, too long, or not writable.
  static Result<std::unique_ptr<Server>> listen(boost::asio::io_context &io, ServerOptions options,
                                                Handler handler);

  /// Stops accepting and removes the socket file. Connections end with the io_context.
  ~Server();
  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;

 private:
  struct Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace sluice::api

#endif
