// HTTP/1.1 on one connection: reads a request, lets the gate judge its header, answers it, and again.
#ifndef SLUICE_CONTROLPLANE_API_SESSION_H
#define SLUICE_CONTROLPLANE_API_SESSION_H

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include "controlplane/api/connection.h"
#include "controlplane/api/http_messages.h"
#include "controlplane/api/render.h"
#include "controlplane/api/router.h"
#include "controlplane/api/tls_context.h"

namespace sluice::api {

using UnixStream = boost::beast::basic_stream<boost::asio::local::stream_protocol>;
using TlsStream = boost::beast::ssl_stream<boost::beast::tcp_stream>;

/// `Stream` is UnixStream or TlsStream. It lives as long as an operation of it does, or its Hub holds it.
template <typename Stream>
class Session : public Connection, public std::enable_shared_from_this<Session<Stream>> {
 public:
  /// `tls` is kept while the connection lasts; null on a Unix socket.
  Session(Stream stream, Peer peer, std::shared_ptr<Hub> hub, TlsContext tls)
      : Connection(std::move(peer)),
        hub_(std::move(hub)),
        tls_(std::move(tls)),
        rules_(hub_->rules),
        stream_(std::move(stream)) {}

  void start() {
    expires_after(hub_->times.header);
    if constexpr (kIsTls) {
      stream_.async_handshake(
          boost::asio::ssl::stream_base::server,
          [self = this->shared_from_this()](const ErrorCode &error) { self->on_handshake(error); });
    } else {
      read_header();
    }
  }

  void close() override {
    ErrorCode ignored;
    lowest().socket().close(ignored);
  }

 private:
  using ErrorCode = boost::system::error_code;
  using Parser = http::request_parser<http::string_body>;
  enum class After { kKeepAlive, kClose };
  static constexpr bool kIsTls = std::is_same_v<Stream, TlsStream>;
  static constexpr std::chrono::seconds kGoodbye{2};      // for a client to end its side
  static constexpr size_t kMaxIgnoredBytes = 256 * 1024;  // of a body that is not read

  auto &lowest() { return boost::beast::get_lowest_layer(stream_); }
  void expires_after(std::chrono::milliseconds time) { lowest().expires_after(time); }

  template <void (Session::*Then)(ErrorCode)>
  auto then() {
    return [self = this->shared_from_this()](const ErrorCode &error, size_t) { (self.get()->*Then)(error); };
  }

  void on_handshake(ErrorCode error) {
    if constexpr (kIsTls) {
      if (error) {
        hub_->gate.note_handshake_failure(peer_, handshake_failure(stream_.native_handle(), error),
                                          Gate::Clock::now());
        return end();
      }
      peer_.certificate_names = certificate_names(stream_.native_handle());
    }
    expires_after(hub_->times.header);
    read_header();
  }

  // Until the first byte of the next request, time counts as idle.
  void wait_for_request() {
    turn_.reset();
    if (phase_ == Phase::kBusy) phase_ = Phase::kIdle;
    if (hub_->on_room) hub_->on_room();
    if (buffer_.size() > 0) return begin_request();
    expires_after(hub_->times.idle);
    stream_.async_read_some(buffer_.prepare(kFirstRead),
                            [self = this->shared_from_this()](const ErrorCode &error, size_t size) {
                              if (error) return self->end();
                              self->buffer_.commit(size);
                              self->begin_request();
                            });
  }

  void begin_request() {
    expires_after(hub_->times.header);
    read_header();
  }

  void read_header() {
    parser_.emplace();
    request_ = {};
    parser_->header_limit(static_cast<uint32_t>(hub_->max_header_bytes));
    parser_->body_limit(kMaxConfigBytes);  // of any path; the path's own when it is known
    http::async_read_header(stream_, buffer_, *parser_, then<&Session::on_header>());
  }

  void on_header(ErrorCode error) {
    if (error) return on_bad_request(error);
    const RequestHeader &header = parser_->get();
    const Result<RequestHead> head = head_of(header);
    request_.method = std::string(header.method_string());
    request_.target = std::string(header.target());
    if (!head.ok()) return refuse(problem(400, head.error().message));
    std::variant<Caller, Response> admitted = hub_->gate.admit(peer_, head.value(), Gate::Clock::now());
    if (Response *refusal = std::get_if<Response>(&admitted)) return refuse(std::move(*refusal));
    request_.caller = std::move(std::get<Caller>(admitted));
    turn_ = hub_->gate.begin_turn(peer_, request_.caller);
    if (!turn_) return refuse(too_busy());
    if (request_.caller.grant) phase_ = Phase::kBusy;
    take_fields(header, &request_);
    const size_t limit = max_body_bytes(request_.method, request_.target);
    parser_->body_limit(limit);
    // The parser has compared Content-Length with the first limit.
    const auto length = parser_->content_length();
    if (length && *length > limit) return on_bad_request(http::error::body_limit);
    expires_after(hub_->times.body);
    if (header[http::field::expect] == "100-continue") return send_continue();
    read_body();
  }

  void send_continue() {
    const auto go_on =
        std::make_shared<http::response<http::empty_body>>(http::status::continue_, parser_->get().version());
    http::async_write(stream_, *go_on,
                      [self = this->shared_from_this(), go_on](const ErrorCode &error, size_t) {
                        if (error) return self->end();
                        self->read_body();
                      });
  }

  void read_body() { http::async_read(stream_, buffer_, *parser_, then<&Session::on_request>()); }

  // The answer comes from another thread. The hub holds this session meanwhile.
  void on_request(ErrorCode error) {
    if (error) return on_bad_request(error);
    Request whole = request_;
    whole.body = std::move(parser_->get().body());
    lowest().expires_never();
    const std::weak_ptr<Session> weak = this->weak_from_this();
    hub_->handler(std::move(whole), [weak, executor = stream_.get_executor()](Response response) {
      boost::asio::post(executor, [weak, answer = std::move(response)]() mutable {
        if (const std::shared_ptr<Session> self = weak.lock()) self->on_answer(std::move(answer));
      });
    });
  }

  void on_answer(Response response) {
    hub_->gate.note(request_, response, Gate::Clock::now());
    const bool keeps = parser_->get().keep_alive() && tls_ == hub_->tls && rules_ == hub_->rules;
    send(to_http(std::move(response), parser_->get().version(), keeps),
         keeps ? After::kKeepAlive : After::kClose);
  }

  // A body that follows is not read: the connection cannot go on. Nor does it for who guesses, or asks too
  // often: another one costs more than another request.
  void refuse(Response response) {
    const bool has_body = parser_->chunked() || parser_->content_length().value_or(0) > 0;
    const bool is_slowed = response.status == 401 || response.status == 429;
    const bool keeps = !has_body && !is_slowed && phase_ != Phase::kStranger && parser_->get().keep_alive();
    send(to_http(std::move(response), parser_->get().version(), keeps),
         keeps ? After::kKeepAlive : After::kClose);
  }

  void on_bad_request(const ErrorCode &error) {
    std::optional<Response> response = answer_to_error(error);
    if (!response) return end();
    send(to_http(std::move(*response), 11, false), After::kClose);
  }

  void send(http::response<http::string_body> message, After after) {
    response_.emplace(std::move(message));
    serializer_.emplace(*response_);
    expires_after(hub_->times.response);
    const auto written = [self = this->shared_from_this(), after](const ErrorCode &error, size_t) {
      if (error) return self->end();
      if (after == After::kClose) return self->say_goodbye();
      self->wait_for_request();
    };
    if (request_.method == "HEAD") {
      http::async_write_header(stream_, *serializer_, written);
    } else {
      http::async_write(stream_, *serializer_, written);
    }
  }

  // Closing with bytes of the client's unread would reset the connection, and could take the answer with it.
  void say_goodbye() {
    expires_after(kGoodbye);
    if constexpr (kIsTls) {
      SSL_set_shutdown(stream_.native_handle(), SSL_RECEIVED_SHUTDOWN);  // its close_notify is not waited for
      stream_.async_shutdown([self = this->shared_from_this()](const ErrorCode &) { self->end_sending(); });
    } else {
      end_sending();
    }
  }

  void end_sending() {
    ErrorCode failed;
    lowest().socket().shutdown(boost::asio::socket_base::shutdown_send, failed);
    if (failed) return end();
    ignore_rest();
  }

  void ignore_rest() {
    lowest().async_read_some(boost::asio::buffer(ignored_),
                             [self = this->shared_from_this()](const ErrorCode &error, size_t size) {
                               self->ignored_bytes_ += size;
                               if (error || self->ignored_bytes_ > kMaxIgnoredBytes) return self->end();
                               self->ignore_rest();
                             });
  }

  void end() {
    close();
    hub_->remove(this);
  }

  static constexpr size_t kFirstRead = 4096;

  std::shared_ptr<Hub> hub_;
  TlsContext tls_;
  const uint64_t rules_;
  Stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  Request request_;  // the one being served
  Gate::Turn turn_;  // of it
  std::optional<http::response<http::string_body>> response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
  std::array<char, 4096> ignored_{};
  size_t ignored_bytes_ = 0;
};

}  // namespace sluice::api

#endif
