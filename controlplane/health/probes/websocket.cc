// A WebSocket's upgrade, a ping and its pong (RFC 6455), by Boost.Beast, which verifies Sec-WebSocket-Accept.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_prefix.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/role.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/http1_exchange.h"
#include "controlplane/health/probes/stream.h"

namespace sluice {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;

namespace {

constexpr std::string_view kPing = "sluice-health";

constexpr size_t kMaxHandshakeHeader = 8 * 1024;  // Beast's own limit
constexpr size_t kMaxHandshakeRead = 1024;  // Beast keeps up to 1,536 bytes of what follows the handshake

// Between a websocket::stream and the connection below it. Of the handshake it reads so little at a time
// that no message behind it is too long for Beast, it reads no long body of a server that does not upgrade,
// and it knows the status, which Beast tells only of an answer that it has read to its end.
template <typename Next>
class Upgrade {
 public:
  using executor_type = typename Next::executor_type;
  using next_layer_type = std::remove_reference_t<Next>;

  explicit Upgrade(Next &next) : next_(next) {}

  executor_type get_executor() { return next_.get_executor(); }
  next_layer_type &next_layer() { return next_; }
  const next_layer_type &next_layer() const { return next_; }

  template <typename Buffers, typename Token>
  auto async_write_some(const Buffers &buffers, Token &&token) {
    return next_.async_write_some(buffers, std::forward<Token>(token));
  }

  template <typename Buffers, typename Token>
  auto async_read_some(const Buffers &buffers, Token &&token) {
    const auto limited = boost::beast::buffers_prefix(over_ ? SIZE_MAX : kMaxHandshakeRead, buffers);
    return asio::async_compose<Token, void(error_code, size_t)>(
        [this, limited, begun = false](auto &self, error_code error = {}, size_t count = 0) mutable {
          if (begun) {
            note(limited, count);
            if (!over_ && read_ > kMaxAnswerBytes && !error) error = http::error::body_limit;
            self.complete(error, count);
            return;
          }
          begun = true;
          const auto into = limited;  // of `self`, which is moved
          next_.async_read_some(into, std::move(self));
        },
        token, next_);
  }

  void end_handshake() { over_ = true; }

  // 0: none has come yet.
  int status() const {
    constexpr size_t kAt = std::string_view("HTTP/1.1 ").size();
    int status = 0;
    if (begin_.size() == kStatusLineBytes)
      std::from_chars(begin_.data() + kAt, begin_.data() + kStatusLineBytes, status);
    return status;
  }

 private:
  static constexpr size_t kStatusLineBytes = std::string_view("HTTP/1.1 200").size();

  template <typename Buffers>
  void note(const Buffers &buffers, size_t count) {
    if (over_) return;
    read_ += count;
    std::array<char, kStatusLineBytes> bytes{};
    const size_t wanted = std::min(count, kStatusLineBytes - begin_.size());
    asio::buffer_copy(asio::buffer(bytes.data(), wanted), buffers);
    begin_.append(bytes.data(), wanted);
  }

  Next &next_;
  std::string begin_;
  size_t read_ = 0;
  bool over_ = false;
};

// How Beast ends the connection, found by their names.
template <typename Next>
void teardown(boost::beast::role_type role, Upgrade<Next> &stream, error_code &error) {
  using websocket::teardown;
  teardown(role, stream.next_layer(), error);
}

template <typename Next, typename Handler>
void async_teardown(boost::beast::role_type role, Upgrade<Next> &stream, Handler &&handler) {
  using websocket::async_teardown;
  async_teardown(role, stream.next_layer(), std::forward<Handler>(handler));
}

// The handshake's end, when the server did not upgrade.
CheckResult judge_upgrade(const error_code &error, const websocket::response_type &response) {
  if (error == websocket::error::upgrade_declined || response.result_int() != 101) {
    return unhealthy(fmt::format("HTTP status {}, expected 101", response.result_int()));
  }
  if (error == websocket::error::bad_sec_accept || error == websocket::error::no_sec_accept) {
    return unhealthy("Sec-WebSocket-Accept is missing or wrong");
  }
  return unhealthy("no WebSocket upgrade: " + error.message());
}

// Reads until the pong is here: messages that the server sends before it are dropped.
template <typename Next>
ProbeRun ping(ProbeStream &stream, websocket::stream<Next> &peer) {
  bool ponged = false;
  peer.control_callback([&](websocket::frame_type kind, boost::beast::string_view payload) {
    ponged = ponged || (kind == websocket::frame_type::pong &&
                        std::string_view(payload.data(), payload.size()) == kPing);
  });
  error_code error;
  stream.await(ProbeStream::Awaited::kPong);
  co_await peer.async_ping({kPing.data(), kPing.size()}, asio::redirect_error(asio::use_awaitable, error));
  if (const Ended ended = stream.judge(error)) co_return *ended;
  boost::beast::flat_buffer message(kMaxAnswerBytes);
  while (!ponged) {
    message.clear();
    co_await peer.async_read_some(message, kMaxAnswerBytes, asio::redirect_error(asio::use_awaitable, error));
    if (ponged) break;
    if (error == websocket::error::closed) co_return unhealthy("connection closed without a pong");
    if (error.category() == make_error_code(websocket::error::closed).category())
      co_return unhealthy("answered what is no WebSocket frame: " + error.message());
    if (const Ended ended = stream.judge(error)) co_return *ended;
  }
  co_return healthy("upgraded, pong");
}

template <typename Next>
ProbeRun check_websocket(ProbeStream &stream, Next &next, const CheckSpec &spec,
                         const model::WebsocketCheck &check) {
  Upgrade<Next> upgrade(next);
  websocket::stream<Upgrade<Next> &> peer(upgrade);
  peer.read_message_max(kMaxAnswerBytes);
  websocket::response_type response;
  error_code error;
  const std::string host = check.host.empty() ? default_host(spec, check.tls) : check.host;
  co_await peer.async_handshake(response, host, check.path, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    const bool answered = error.category() == make_error_code(websocket::error::bad_sec_accept).category();
    if (answered) co_return judge_upgrade(error, response);
    if (upgrade.status() != 0 && upgrade.status() != 101)
      co_return unhealthy(fmt::format("HTTP status {}, expected 101", upgrade.status()));
    if (error == http::error::end_of_stream) error = asio::error::eof;
    if (error == http::error::partial_message) {
      stream.await(ProbeStream::Awaited::kRestOfAnswer);
      error = asio::error::eof;
    }
    const bool parsed = error.category() == make_error_code(http::error::bad_version).category();
    if (parsed) co_return unhealthy(misread_text(error, kMaxHandshakeHeader));
    const Ended ended = stream.judge(error);
    co_return ended ? *ended : unhealthy(error.message());
  }
  upgrade.end_handshake();
  co_return co_await ping(stream, peer);
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::WebsocketCheck &check) {
  ProbeStream stream(context, spec);
  if (const Ended ended = co_await stream.connect()) co_return *ended;
  if (stream.tls() != nullptr) co_return co_await check_websocket(stream, *stream.tls(), spec, check);
  co_return co_await check_websocket(stream, stream.socket(), spec, check);
}

}  // namespace sluice
