// The API on a Unix socket: who may open it, and whose process does.
#ifndef SLUICE_CONTROLPLANE_API_UNIX_SERVER_H
#define SLUICE_CONTROLPLANE_API_UNIX_SERVER_H

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <sys/types.h>

#include "controlplane/api/connection.h"
#include "controlplane/api/gate.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

/// Who may open the socket.
struct SocketAccess {
  mode_t mode = 0660;
  std::optional<gid_t> group;  // absent: sluiced's own
};

struct UnixServerOptions {
  std::filesystem::path socket_path = "/run/sluice/sluiced.sock";
  SocketAccess access;
  size_t max_connections = 64;  // one more takes the place of one that is not being served, or waits
  size_t max_header_bytes = 8 * 1024;
  Times times;
};

/// Serves requests on the io_context's thread, several connections at a time, kept alive between
/// requests. A malformed request is answered with 400 and the connection closed; a slow one is cut off.
class UnixServer {
 public:
  /// Binds and begins to accept. A socket file that nobody listens on is replaced. `gate` must outlive it.
  /// Errors: somebody listens, the path is no socket, too long, or not writable, the group cannot have it.
  static Result<std::unique_ptr<UnixServer>> listen(boost::asio::io_context &io, UnixServerOptions options,
                                                    Gate &gate, Handler handler);

  /// Other rights from now on. Connections that there are stay. The error names the field.
  Status use(const SocketAccess &access);
  void set_times(const Times &times);

  /// Stops accepting, ends the connections and removes the socket file.
  ~UnixServer();
  UnixServer(const UnixServer &) = delete;
  UnixServer &operator=(const UnixServer &) = delete;

 private:
  struct Impl;
  explicit UnixServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace sluice::api

#endif
