// A WebSocket's upgrade, a ping and its pong (RFC 6455), by Boost.Beast, which verifies Sec-WebSocket-Accept.
#include <string_view>
#include <utility>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
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
  websocket::stream<Next &> peer(next);
  peer.read_message_max(kMaxAnswerBytes);
  websocket::response_type response;
  error_code error;
  const std::string host = check.host.empty() ? default_host(spec, check.tls) : check.host;
  co_await peer.async_handshake(response, host, check.path, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    const bool answered = error.category() == make_error_code(websocket::error::bad_sec_accept).category();
    if (answered) co_return judge_upgrade(error, response);
    if (error == http::error::end_of_stream) error = asio::error::eof;
    if (error == http::error::partial_message) {
      stream.await(ProbeStream::Awaited::kRestOfAnswer);
      error = asio::error::eof;
    }
    const bool parsed = error.category() == make_error_code(http::error::bad_version).category();
    if (parsed) co_return unhealthy("the answer is not HTTP/1");
    const Ended ended = stream.judge(error);
    co_return ended ? *ended : unhealthy(error.message());
  }
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
