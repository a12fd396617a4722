#include "controlplane/api/server.h"

#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "controlplane/api/render.h"
#include "controlplane/api/router.h"

namespace sluice::api {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using UnixProtocol = asio::local::stream_protocol;
using Stream = beast::basic_stream<UnixProtocol>;
using ErrorCode = boost::system::error_code;

constexpr std::chrono::milliseconds kAcceptRetryDelay{100};
constexpr mode_t kSocketMask = 0117;  // leaves 0660

// How a request that could not be read is answered; nothing when there is nobody to answer.
std::optional<Response> answer_to_error(const ErrorCode &error) {
  if (error == http::error::end_of_stream || error == beast::error::timeout) return std::nullopt;
  if (error == http::error::header_limit) return problem(431, "the header is larger than this API reads");
  if (error == http::error::body_limit) {
    return problem(413, fmt::format("the body is larger than this path reads; check-config takes {} bytes",
                                    kMaxConfigBytes));
  }
  if (error.category() != make_error_code(http::error::bad_method).category()) return std::nullopt;
  if (error == http::error::partial_message) return std::nullopt;
  return problem(400, "this is no HTTP/1.1 request: " + error.message());
}

http::response<http::string_body> to_http(Response response, unsigned version, bool keep_alive) {
  http::response<http::string_body> message;
  message.version(version);
  message.result(response.status);
  message.set(http::field::server, "sluiced");
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, "no-store");
  if (!response.allow.empty()) message.set(http::field::allow, response.allow);
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  return message;
}

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

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  asio::io_context &io;
  ServerOptions options;
  Handler handler;
  UnixProtocol::acceptor acceptor;
  asio::steady_timer slot_free;  // cancelled when a connection ends
  size_t connections = 0;
  bool stopped = false;
  dev_t device = 0;
  ino_t inode = 0;

  Impl(asio::io_context &context, ServerOptions server_options, Handler request_handler)
      : io(context),
        options(std::move(server_options)),
        handler(std::move(request_handler)),
        acceptor(context),
        slot_free(context) {}

  Status bind_and_listen();
  asio::awaitable<void> accept_loop();
  asio::awaitable<void> serve(UnixProtocol::socket socket);
  asio::awaitable<bool> serve_one(Stream &stream, beast::flat_buffer &buffer);
  asio::awaitable<void> respond(Stream &stream, http::response<http::string_body> message, bool head);
  Response answer(const http::request<http::string_body> &message);
};

Status Server::Impl::bind_and_listen() {
  const Status cleared = clear_path(options.socket_path);
  if (!cleared.ok()) return cleared;
  ErrorCode error;
  acceptor.open(UnixProtocol(), error);
  const mode_t mask = umask(kSocketMask);
  if (!error) acceptor.bind(UnixProtocol::endpoint(options.socket_path.native()), error);
  umask(mask);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Error{fmt::format("API socket {}: {}; is its directory there and writable?",
                             options.socket_path.native(), error.message())};
  }
  struct stat made {};
  if (lstat(options.socket_path.c_str(), &made) == 0) {
    device = made.st_dev;
    inode = made.st_ino;
  }
  return Done{};
}

asio::awaitable<void> Server::Impl::accept_loop() {
  const std::shared_ptr<Impl> self = shared_from_this();
  while (!stopped) {
    ErrorCode error;
    if (connections >= options.max_connections) {
      slot_free.expires_after(std::chrono::hours(1));
      co_await slot_free.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    UnixProtocol::socket socket(io);
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (stopped || error == asio::error::operation_aborted) co_return;
    if (error) {  // out of descriptors or memory: later there may be some
      spdlog::warn("API: cannot accept a connection: {}", error.message());
      slot_free.expires_after(kAcceptRetryDelay);
      co_await slot_free.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    connections++;
    asio::co_spawn(io, serve(std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> Server::Impl::serve(UnixProtocol::socket socket) {
  const std::shared_ptr<Impl> self = shared_from_this();
  {
    Stream stream(std::move(socket));
    beast::flat_buffer buffer;
    while (co_await serve_one(stream, buffer)) {
    }
    ErrorCode ignored;
    stream.socket().shutdown(UnixProtocol::socket::shutdown_both, ignored);
  }
  connections--;
  slot_free.cancel();
}

// Reads and answers one request; false when the connection is to be closed.
asio::awaitable<bool> Server::Impl::serve_one(Stream &stream, beast::flat_buffer &buffer) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<uint32_t>(options.max_header_bytes));
  parser.body_limit(kMaxConfigBytes);  // of any path; the path's own when it is known
  stream.expires_after(options.request_timeout);
  ErrorCode error;
  co_await http::async_read_header(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (!error) {
    const auto method = parser.get().method_string();
    const auto target = parser.get().target();
    const size_t limit = max_body_bytes({method.data(), method.size()}, {target.data(), target.size()});
    parser.body_limit(limit);
    // The parser has compared Content-Length with the first limit.
    const auto length = parser.content_length();
    if (length && *length > limit) error = http::error::body_limit;
  }
  if (!error && parser.get()[http::field::expect] == "100-continue") {
    http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
    co_await http::async_write(stream, go_on, asio::redirect_error(asio::use_awaitable, error));
  }
  if (!error) {
    co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) {
    std::optional<Response> response = answer_to_error(error);
    if (response) co_await respond(stream, to_http(std::move(*response), 11, false), false);
    co_return false;
  }
  const http::request<http::string_body> request = parser.release();
  const bool keep_alive = request.keep_alive();
  http::response<http::string_body> message = to_http(answer(request), request.version(), keep_alive);
  co_await respond(stream, std::move(message), request.method() == http::verb::head);
  co_return keep_alive &&stream.socket().is_open();
}

Response Server::Impl::answer(const http::request<http::string_body> &message) {
  Request request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.body = message.body();
  try {
    return handler(request);
  } catch (const std::exception &exception) {  // of a library below: one request fails, not the daemon
    spdlog::error("API: {} {} failed: {}", request.method, request.target, exception.what());
    return problem(500, "this request failed inside sluiced; its log says why");
  }
}

asio::awaitable<void> Server::Impl::respond(Stream &stream, http::response<http::string_body> message,
                                            bool head) {
  stream.expires_after(options.response_timeout);
  ErrorCode error;
  if (head) {
    http::response_serializer<http::string_body> serializer(message);
    co_await http::async_write_header(stream, serializer, asio::redirect_error(asio::use_awaitable, error));
  } else {
    co_await http::async_write(stream, message, asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) stream.close();
}

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::listen(asio::io_context &io, ServerOptions options, Handler handler) {
  auto impl = std::make_shared<Impl>(io, std::move(options), std::move(handler));
  const Status bound = impl->bind_and_listen();
  if (!bound.ok()) return bound.error();
  asio::co_spawn(io, impl->accept_loop(), asio::detached);
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  impl_->stopped = true;
  ErrorCode ignored;
  impl_->acceptor.close(ignored);
  impl_->slot_free.cancel();
  // Only the file that is this server's: another may have replaced it.
  struct stat found {};
  const std::filesystem::path &path = impl_->options.socket_path;
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == impl_->device && found.st_ino == impl_->inode) {
    unlink(path.c_str());
  }
}

}  // namespace sluice::api
