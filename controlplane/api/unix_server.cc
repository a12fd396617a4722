#include "controlplane/api/unix_server.h"

#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "controlplane/api/session.h"

namespace sluice::api {

namespace {

namespace asio = boost::asio;
using UnixProtocol = asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

constexpr std::chrono::milliseconds kAcceptRetryDelay{100};  // after descriptors or memory ran out
constexpr mode_t kClosedMask = 0177;  // until group and mode are set, it is for the owner alone

// Whether somebody accepts connections on the socket file.
bool is_listened_on(const sockaddr_un &address) {
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return true;  // cannot tell: leave the file alone
  const int connected = connect(probe, reinterpret_cast<const sockaddr *>(&address), sizeof(address));
  const int why = errno;
  close(probe);
  return connected == 0 || why == EAGAIN || why == EACCES;
}

Status clear_path(const std::filesystem::path &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof(address.sun_path)) {
    return Error{
        fmt::format("API socket {}: the path is longer than {} bytes; choose a shorter one with --api-socket",
                    path.native(), sizeof(address.sun_path) - 1)};
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size() + 1);
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return Done{};
  if (!S_ISSOCK(found.st_mode)) {
    return Error{
        fmt::format("API socket {}: there is something else than a socket; remove it or choose another path",
                    path.native())};
  }
  if (is_listened_on(address)) {
    return Error{fmt::format("API socket {}: another sluiced listens there; stop it or choose another path",
                             path.native())};
  }
  unlink(path.c_str());
  return Done{};
}

// Who connected: the kernel noted it then.
std::optional<LocalPeer> local_peer(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
  LocalPeer peer{credentials.pid, credentials.uid, {}};
  std::vector<gid_t> groups(64);
  size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int got = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (got != 0 && errno == ERANGE) {
    groups.resize(size / sizeof(gid_t));
    got = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  if (got == 0) peer.groups.assign(groups.begin(), groups.begin() + size / sizeof(gid_t));
  peer.groups.push_back(credentials.gid);
  return peer;
}

Status set_access(const std::string &path, const SocketAccess &access) {
  if (access.group && chown(path.c_str(), static_cast<uid_t>(-1), *access.group) != 0) {
    return Error{
        fmt::format("api.socket.group: the API socket {} cannot be given to group {}: {}; sluiced must be a "
                    "member of the group, or root",
                    path, *access.group, std::generic_category().message(errno))};
  }
  if (chmod(path.c_str(), access.mode) != 0)
    return Error{fmt::format("API socket {}: {}", path, std::generic_category().message(errno))};
  return Done{};
}

}  // namespace

struct UnixServer::Impl : std::enable_shared_from_this<UnixServer::Impl> {
  asio::io_context &io;
  UnixServerOptions options;
  std::shared_ptr<Hub> hub;
  UnixProtocol::acceptor acceptor;
  asio::steady_timer retry;
  std::optional<UnixProtocol::socket> waiting;  // accepted, while all connections are being served
  enum class Accepting { kYes, kStopped } accepting = Accepting::kYes;
  dev_t device = 0;
  ino_t inode = 0;

  Impl(asio::io_context &context, UnixServerOptions server_options, Gate &gate, Handler handler)
      : io(context),
        options(std::move(server_options)),
        hub(std::make_shared<Hub>(gate, std::move(handler))),
        acceptor(context),
        retry(context) {
    hub->times = options.times;
    hub->max_header_bytes = options.max_header_bytes;
  }

  Status bind_and_listen();
  void accept();
  void on_accept(const ErrorCode &error, UnixProtocol::socket socket);
  void begin(UnixProtocol::socket socket);
  void on_room();
};

Status UnixServer::Impl::bind_and_listen() {
  Status cleared = clear_path(options.socket_path);
  if (!cleared.ok()) return cleared;
  ErrorCode error;
  acceptor.open(UnixProtocol(), error);
  const mode_t mask = umask(kClosedMask);
  if (!error) acceptor.bind(UnixProtocol::endpoint(options.socket_path.native()), error);
  umask(mask);
  if (!error) {
    Status accessible = set_access(options.socket_path.native(), options.access);
    if (!accessible.ok()) {
      unlink(options.socket_path.c_str());
      return accessible;
    }
  }
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Error{fmt::format(
        "API socket {}: {}; its directory must be there, and sluiced be allowed to write to it (or choose "
        "another path with --api-socket)",
        options.socket_path.native(), error.message())};
  }
  struct stat made {};
  if (lstat(options.socket_path.c_str(), &made) == 0) {
    device = made.st_dev;
    inode = made.st_ino;
  }
  return Done{};
}

void UnixServer::Impl::accept() {
  acceptor.async_accept([self = shared_from_this()](const ErrorCode &error, UnixProtocol::socket socket) {
    self->on_accept(error, std::move(socket));
  });
}

void UnixServer::Impl::on_accept(const ErrorCode &error, UnixProtocol::socket socket) {
  if (accepting == Accepting::kStopped || error == asio::error::operation_aborted) return;
  if (error) {
    spdlog::warn("API: cannot accept a connection: {}", error.message());
    retry.expires_after(kAcceptRetryDelay);
    retry.async_wait([self = shared_from_this()](const ErrorCode &cancelled) {
      if (!cancelled) self->accept();
    });
    return;
  }
  begin(std::move(socket));
}

void UnixServer::Impl::begin(UnixProtocol::socket socket) {
  if (hub->size() >= options.max_connections && !hub->make_room()) {
    waiting.emplace(std::move(socket));
    return;
  }
  std::optional<LocalPeer> process = local_peer(socket.native_handle());
  if (process) {
    Peer peer{fmt::format("uid {} pid {}", process->uid, process->pid),
              fmt::format("uid {}", process->uid),
              std::move(process),
              {}};
    const auto session =
        std::make_shared<Session<UnixStream>>(UnixStream(std::move(socket)), std::move(peer), hub, nullptr);
    hub->add(session);
    session->start();
  }
  accept();
}

void UnixServer::Impl::on_room() {
  if (!waiting || accepting == Accepting::kStopped) return;
  UnixProtocol::socket socket = std::move(*waiting);
  waiting.reset();
  begin(std::move(socket));
}

UnixServer::UnixServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<UnixServer>> UnixServer::listen(asio::io_context &io, UnixServerOptions options,
                                                       Gate &gate, Handler handler) {
  auto impl = std::make_shared<Impl>(io, std::move(options), gate, std::move(handler));
  const Status bound = impl->bind_and_listen();
  if (!bound.ok()) return bound.error();
  impl->hub->on_room = [weak = impl->weak_from_this()] {
    if (const std::shared_ptr<Impl> self = weak.lock()) self->on_room();
  };
  impl->accept();
  return std::unique_ptr<UnixServer>(new UnixServer(std::move(impl)));
}

Status UnixServer::use(const SocketAccess &access) {
  Status used = set_access(impl_->options.socket_path.native(), access);
  if (!used.ok()) return used;
  // Whoever could open the socket then perhaps cannot now.
  impl_->hub->rules++;
  impl_->hub->close_unserved();
  return used;
}

void UnixServer::set_times(const Times &times) { impl_->hub->times = times; }

UnixServer::~UnixServer() {
  impl_->accepting = Impl::Accepting::kStopped;
  ErrorCode ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
  impl_->hub->close_all();
  // Only the file that is this server's: another may have replaced it.
  struct stat found {};
  const std::filesystem::path &path = impl_->options.socket_path;
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == impl_->device && found.st_ino == impl_->inode) {
    unlink(path.c_str());
  }
}

}  // namespace sluice::api
