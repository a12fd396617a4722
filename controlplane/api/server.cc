#include "controlplane/api/server.h"

#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
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

constexpr std::chrono::milliseconds kAcceptRetryDelay{100};  // after descriptors or memory ran out
constexpr mode_t kSocketMask = 0117;                         // leaves 0660

// How a request that could not be read is answered; nothing when there is nobody to answer.
std::optional<Response> answer_to_error(const ErrorCode &error) {
  if (error == http::error::end_of_stream || error == beast::error::timeout) return std::nullopt;
  if (error == http::error::header_limit) return problem(431, "the header is larger than this API reads");
  if (error == http::error::body_limit) {
    return problem(413,
                   fmt::format("the body is larger than this path reads; a configuration may have {} bytes",
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

// One connection: reads a request, answers it, and again. It lives as long as an operation of it does.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(UnixProtocol::socket socket, const ServerOptions &options, const Server::Handler &handler,
          std::function<void()> on_end)
      : stream_(std::move(socket)), options_(options), handler_(handler), on_end_(std::move(on_end)) {}
  ~Session() { on_end_(); }
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  void read_header();

 private:
  using Parser = http::request_parser<http::string_body>;
  using Message = http::response<http::string_body>;
  enum class After { kKeepAlive, kClose };

  void on_header(ErrorCode error);
  void send_continue();
  void read_body();
  void on_request(ErrorCode error);
  void on_bad_request(const ErrorCode &error);
  Response answer(const http::request<http::string_body> &message) const;
  void send(Message message, After after);

  template <void (Session::*Then)(ErrorCode)>
  auto then() {
    return [self = shared_from_this()](const ErrorCode &error, size_t) { (self.get()->*Then)(error); };
  }

  Stream stream_;
  ServerOptions options_;
  Server::Handler handler_;
  std::function<void()> on_end_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  http::verb method_ = http::verb::unknown;  // of the request being served
  std::optional<Message> response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
};

void Session::read_header() {
  parser_.emplace();
  method_ = http::verb::unknown;
  parser_->header_limit(static_cast<uint32_t>(options_.max_header_bytes));
  parser_->body_limit(kMaxConfigBytes);  // of any path; the path's own when it is known
  stream_.expires_after(options_.request_timeout);
  http::async_read_header(stream_, buffer_, *parser_, then<&Session::on_header>());
}

void Session::on_header(ErrorCode error) {
  if (error) return on_bad_request(error);
  method_ = parser_->get().method();
  const auto method = parser_->get().method_string();
  const auto target = parser_->get().target();
  const size_t limit = max_body_bytes({method.data(), method.size()}, {target.data(), target.size()});
  parser_->body_limit(limit);
  // The parser has compared Content-Length with the first limit.
  const auto length = parser_->content_length();
  if (length && *length > limit) return on_bad_request(http::error::body_limit);
  if (parser_->get()[http::field::expect] == "100-continue") return send_continue();
  read_body();
}

void Session::send_continue() {
  const auto go_on =
      std::make_shared<http::response<http::empty_body>>(http::status::continue_, parser_->get().version());
  http::async_write(stream_, *go_on, [self = shared_from_this(), go_on](const ErrorCode &error, size_t) {
    if (!error) self->read_body();
  });
}

void Session::read_body() { http::async_read(stream_, buffer_, *parser_, then<&Session::on_request>()); }

void Session::on_request(ErrorCode error) {
  if (error) return on_bad_request(error);
  const http::request<http::string_body> request = parser_->release();
  const After after = request.keep_alive() ? After::kKeepAlive : After::kClose;
  send(to_http(answer(request), request.version(), request.keep_alive()), after);
}

void Session::on_bad_request(const ErrorCode &error) {
  std::optional<Response> response = answer_to_error(error);
  if (response) send(to_http(std::move(*response), 11, false), After::kClose);
}

Response Session::answer(const http::request<http::string_body> &message) const {
  Request request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.body = message.body();
  try {
    return handler_(request);
  } catch (const std::exception &exception) {  // of a library below: one request fails, not the daemon
    spdlog::error("API: {} {} failed: {}", request.method, request.target, exception.what());
    return problem(500, "this request failed inside sluiced; its log says why");
  }
}

void Session::send(Message message, After after) {
  response_.emplace(std::move(message));
  serializer_.emplace(*response_);
  stream_.expires_after(options_.response_timeout);
  const auto written = [self = shared_from_this(), after](const ErrorCode &error, size_t) {
    if (!error && after == After::kKeepAlive) return self->read_header();
    ErrorCode ignored;
    self->stream_.socket().shutdown(UnixProtocol::socket::shutdown_both, ignored);
  };
  if (method_ == http::verb::head) {
    http::async_write_header(stream_, *serializer_, written);
  } else {
    http::async_write(stream_, *serializer_, written);
  }
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  asio::io_context &io;
  ServerOptions options;
  Handler handler;
  UnixProtocol::acceptor acceptor;
  asio::steady_timer retry;
  size_t connections = 0;
  enum class Accepting { kYes, kWaitsForAnEnd, kStopped } accepting = Accepting::kYes;
  dev_t device = 0;
  ino_t inode = 0;

  Impl(asio::io_context &context, ServerOptions server_options, Handler request_handler)
      : io(context),
        options(std::move(server_options)),
        handler(std::move(request_handler)),
        acceptor(context),
        retry(context) {}

  Status bind_and_listen();
  void accept();
  void on_accept(const ErrorCode &error, UnixProtocol::socket socket);
  void on_end();
};

Status Server::Impl::bind_and_listen() {
  Status cleared = clear_path(options.socket_path);
  if (!cleared.ok()) return cleared;
  ErrorCode error;
  acceptor.open(UnixProtocol(), error);
  const mode_t mask = umask(kSocketMask);
  if (!error) acceptor.bind(UnixProtocol::endpoint(options.socket_path.native()), error);
  umask(mask);
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

void Server::Impl::accept() {
  if (connections >= options.max_connections) {
    accepting = Accepting::kWaitsForAnEnd;
    return;
  }
  acceptor.async_accept([self = shared_from_this()](const ErrorCode &error, UnixProtocol::socket socket) {
    self->on_accept(error, std::move(socket));
  });
}

void Server::Impl::on_accept(const ErrorCode &error, UnixProtocol::socket socket) {
  if (accepting == Accepting::kStopped || error == asio::error::operation_aborted) return;
  if (error) {
    spdlog::warn("API: cannot accept a connection: {}", error.message());
    retry.expires_after(kAcceptRetryDelay);
    retry.async_wait([self = shared_from_this()](const ErrorCode &cancelled) {
      if (!cancelled) self->accept();
    });
    return;
  }
  connections++;
  const auto ended = [weak = weak_from_this()] {
    if (const std::shared_ptr<Impl> self = weak.lock()) self->on_end();
  };
  std::make_shared<Session>(std::move(socket), options, handler, ended)->read_header();
  accept();
}

void Server::Impl::on_end() {
  connections--;
  if (accepting != Accepting::kWaitsForAnEnd) return;
  accepting = Accepting::kYes;
  accept();
}

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::listen(asio::io_context &io, ServerOptions options, Handler handler) {
  auto impl = std::make_shared<Impl>(io, std::move(options), std::move(handler));
  const Status bound = impl->bind_and_listen();
  if (!bound.ok()) return bound.error();
  impl->accept();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  impl_->accepting = Impl::Accepting::kStopped;
  ErrorCode ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
  // Only the file that is this server's: another may have replaced it.
  struct stat found {};
  const std::filesystem::path &path = impl_->options.socket_path;
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == impl_->device && found.st_ino == impl_->inode) {
    unlink(path.c_str());
  }
}

}  // namespace sluice::api
