#include "controlplane/api/https_server.h"

#include <algorithm>
#include <list>
#include <string>
#include <utility>

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/api/session.h"
#include "controlplane/model/address_text.h"

namespace sluice::api {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr std::chrono::milliseconds kAcceptRetryDelay{100};  // after descriptors or memory ran out
constexpr size_t kNetworkBytes = 8;                          // of an IPv6 /64, which one customer has

std::string text_of(const model::ListenAddress &address) {
  const std::string host = format_address(address.address);
  if (address_is_ipv4(&address.address)) return fmt::format("{}:{}", host, address.l4_port);
  return fmt::format("[{}]:{}", host, address.l4_port);
}

Result<BoundAddress> bind_address(asio::io_context &io, const model::ListenAddress &address) {
  const tcp::endpoint endpoint(asio::ip::make_address(format_address(address.address)), address.l4_port);
  BoundAddress bound{address, tcp::acceptor(io)};
  ErrorCode error;
  bound.acceptor.open(endpoint.protocol(), error);
  if (!error) bound.acceptor.set_option(asio::socket_base::reuse_address(true), error);
  // 0.0.0.0 and :: are two addresses here.
  if (!error && endpoint.address().is_v6()) bound.acceptor.set_option(asio::ip::v6_only(true), error);
  if (!error) bound.acceptor.bind(endpoint, error);
  if (!error) bound.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Error{fmt::format("api.listen: {}: {}", text_of(address), error.message())};
  return bound;
}

Peer peer_of(const tcp::endpoint &endpoint) {
  Peer peer;
  const std::string host = endpoint.address().to_string();
  peer.text = fmt::format("{}:{}", host, endpoint.port());
  peer.limit_key = host;
  if (endpoint.address().is_v6()) {
    peer.text = fmt::format("[{}]:{}", host, endpoint.port());
    auto bytes = endpoint.address().to_v6().to_bytes();
    std::fill(bytes.begin() + kNetworkBytes, bytes.end(), 0);
    peer.limit_key = asio::ip::address_v6(bytes).to_string() + "/64";
  }
  return peer;
}

}  // namespace

Result<std::vector<BoundAddress>> bind_addresses(asio::io_context &io,
                                                 const std::vector<model::ListenAddress> &wanted,
                                                 const std::vector<model::ListenAddress> &bound) {
  std::vector<BoundAddress> added;
  for (const model::ListenAddress &address : wanted) {
    if (std::ranges::find(bound, address) != bound.end()) continue;
    Result<BoundAddress> made = bind_address(io, address);
    if (!made.ok()) return made.error();
    added.push_back(std::move(made).value());
  }
  return added;
}

// Accepts on one address.
struct Listener {
  BoundAddress bound;
  asio::steady_timer retry;
};

struct HttpsServer::Impl : std::enable_shared_from_this<HttpsServer::Impl> {
  asio::io_context &io;
  std::shared_ptr<Hub> hub;
  model::ApiLimits limits;
  std::list<std::shared_ptr<Listener>> listeners;

  Impl(asio::io_context &context, Gate &gate, Handler handler)
      : io(context), hub(std::make_shared<Hub>(gate, std::move(handler))) {}

  void accept(const std::shared_ptr<Listener> &listener);
  void on_accept(const std::shared_ptr<Listener> &listener, const ErrorCode &error, tcp::socket socket);
  void begin(tcp::socket socket);
};

void HttpsServer::Impl::accept(const std::shared_ptr<Listener> &listener) {
  listener->bound.acceptor.async_accept(
      [weak = weak_from_this(), listener](const ErrorCode &error, tcp::socket socket) {
        if (const std::shared_ptr<Impl> self = weak.lock())
          self->on_accept(listener, error, std::move(socket));
      });
}

void HttpsServer::Impl::on_accept(const std::shared_ptr<Listener> &listener, const ErrorCode &error,
                                  tcp::socket socket) {
  if (error == asio::error::operation_aborted || !listener->bound.acceptor.is_open()) return;
  if (!error) {
    begin(std::move(socket));
    return accept(listener);
  }
  spdlog::warn("API: cannot accept a connection: {}", error.message());
  listener->retry.expires_after(kAcceptRetryDelay);
  listener->retry.async_wait([weak = weak_from_this(), listener](const ErrorCode &cancelled) {
    const std::shared_ptr<Impl> self = weak.lock();
    if (self && !cancelled) self->accept(listener);
  });
}

void HttpsServer::Impl::begin(tcp::socket socket) {
  ErrorCode error;
  const tcp::endpoint remote = socket.remote_endpoint(error);
  if (error) return;  // it has gone
  Peer peer = peer_of(remote);
  if (!hub->gate.may_connect(peer, Gate::Clock::now())) return;
  if (hub->count_of(peer.limit_key) >= limits.connections_per_address) return;
  if (hub->size() >= limits.connections && !hub->make_room()) return;
  socket.set_option(tcp::no_delay(true), error);
  socket.set_option(asio::socket_base::keep_alive(true), error);
  TlsStream stream(std::move(socket), *hub->tls);
  const auto session =
      std::make_shared<Session<TlsStream>>(std::move(stream), std::move(peer), hub, hub->tls);
  hub->add(session);
  session->start();
}

HttpsServer::HttpsServer(asio::io_context &io, Gate &gate, Handler handler)
    : impl_(std::make_shared<Impl>(io, gate, std::move(handler))) {}

void HttpsServer::use(const model::ApiSpec &spec, TlsContext tls, std::vector<BoundAddress> added) {
  impl_->limits = spec.limits;
  impl_->hub->times.header = spec.limits.header_timeout;
  impl_->hub->times.body = spec.limits.body_timeout;
  impl_->hub->times.idle = spec.limits.idle_timeout;
  impl_->hub->tls = std::move(tls);
  impl_->hub->close_unserved();
  std::erase_if(impl_->listeners, [&](const std::shared_ptr<Listener> &listener) {
    if (std::ranges::find(spec.listen, listener->bound.address) != spec.listen.end()) return false;
    ErrorCode ignored;
    listener->bound.acceptor.close(ignored);
    listener->retry.cancel();
    return true;
  });
  for (BoundAddress &each : added) {
    const auto listener =
        std::make_shared<Listener>(Listener{std::move(each), asio::steady_timer(impl_->io)});
    impl_->listeners.push_back(listener);
    impl_->accept(listener);
  }
}

HttpsServer::~HttpsServer() {
  for (const std::shared_ptr<Listener> &listener : impl_->listeners) {
    ErrorCode ignored;
    listener->bound.acceptor.close(ignored);
    listener->retry.cancel();
  }
  impl_->hub->close_all();
}

}  // namespace sluice::api
