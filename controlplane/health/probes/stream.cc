#include "controlplane/health/probes/stream.h"

#include <cstring>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <openssl/err.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/endpoint.h"
#include "controlplane/health/probes/system_error.h"

namespace sluice {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kReadBytes = 4096;
constexpr int kSilenceShare = 4;  // of the time left, for the verdict on the client's certificate

const char *not_yet_text(ProbeStream::Awaited awaited) {
  switch (awaited) {
    case ProbeStream::Awaited::kConnection:
      return "no connection";
    case ProbeStream::Awaited::kTlsHandshake:
      return "TLS handshake not complete";
    case ProbeStream::Awaited::kAnswer:
      return "no answer";
    case ProbeStream::Awaited::kRestOfAnswer:
      return "answer not complete";
    case ProbeStream::Awaited::kPong:
      return "no pong";
  }
  return "";
}

const char *closed_text(ProbeStream::Awaited awaited) {
  if (awaited == ProbeStream::Awaited::kRestOfAnswer) return "connection closed in the middle of the answer";
  if (awaited == ProbeStream::Awaited::kPong) return "connection closed without a pong";
  return "connection closed without an answer";
}

auto awaiting(error_code &error) { return asio::redirect_error(asio::use_awaitable, error); }

}  // namespace

ProbeStream::ProbeStream(ProbeContext &context, const CheckSpec &spec)
    : context_(context), spec_(spec), socket_(context.io), deadline_(context.io, spec.health.timeout, [this] {
        error_code ignored;
        socket_.close(ignored);
      }) {}

Ended ProbeStream::judge(const error_code &error) {
  if (deadline_.expired())
    return unhealthy(
        fmt::format("{} within {}", not_yet_text(awaited_), duration_text(spec_.health.timeout)));
  if (!error) return std::nullopt;
  if (error == asio::error::eof || error == asio::ssl::error::stream_truncated) {
    return unhealthy(closed_text(awaited_));
  }
  if (error.category() == asio::error::get_ssl_category()) {
    return unhealthy(tls_failure_text(expectation_, static_cast<unsigned long>(error.value())));
  }
  if (error.category() == boost::system::system_category()) {
    return judge_system_error(error.value(), spec_.address);
  }
  return unhealthy(error.message());
}

ProbeStep ProbeStream::connect() {
  error_code error;
  const auto endpoint = endpoint_of<asio::ip::tcp>(spec_.address, spec_.l4_port);
  socket_.open(endpoint.protocol(), error);
  if (error) co_return judge(error);
  if (const auto &source = source_of(spec_)) {
    const uint16_t port = choose_source_port(context_, spec_);
    if (port == 0) {
      choose_port_at_connect(socket_.native_handle());
    } else {
      free_port_at_once(socket_.native_handle());
    }
    socket_.bind(endpoint_of<asio::ip::tcp>(*source, port), error);
    if (error) co_return source_failure(*source, error.value());
  }
  co_await socket_.async_connect(endpoint, awaiting(error));
  if (const Ended ended = judge(error)) co_return ended;
  await(Awaited::kAnswer);
  const model::TlsOptions *options = model::tls_of(spec_.health.kind);
  if (options == nullptr) co_return std::nullopt;
  co_return co_await handshake(*options);
}

ProbeStep ProbeStream::handshake(const model::TlsOptions &options) {
  auto context = context_.tls.get(options);
  if (!context.ok()) co_return not_carried_out(context.error().message);
  tls_context_ = std::move(context).value();
  tls_ = std::make_unique<TlsStream>(socket_, *tls_context_);
  expectation_.options = &options;
  expect_certificate(tls_->native_handle(), &expectation_, spec_.address);
  await(Awaited::kTlsHandshake);
  error_code error;
  co_await tls_->async_handshake(asio::ssl::stream_base::client, awaiting(error));
  const bool closed = error == asio::error::eof || error == asio::ssl::error::stream_truncated;
  if (closed && !deadline_.expired()) co_return unhealthy(tls_failure_text(expectation_, 0));
  if (const Ended ended = judge(error)) co_return ended;
  await(Awaited::kAnswer);
  co_return std::nullopt;
}

ProbeStep ProbeStream::wait_for_verdict() {
  if (!expectation_.asked_for_certificate || SSL_version(tls_->native_handle()) < TLS1_3_VERSION)
    co_return std::nullopt;
  const Deadline silence(context_.io, deadline_.left() / kSilenceShare, [this] {
    error_code ignored;
    socket_.close(ignored);
  });
  error_code error;
  co_await tls_->async_shutdown(awaiting(error));  // says nothing of an alert
  if (expectation_.alert != 0) co_return unhealthy(tls_failure_text(expectation_, expectation_.alert));
  const bool spoke =
      error.category() == asio::error::get_ssl_category() &&
      ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_APPLICATION_DATA_AFTER_CLOSE_NOTIFY;
  const bool closed = error == asio::error::eof || error == asio::ssl::error::stream_truncated;
  co_return judge(spoke || closed || silence.expired() ? error_code() : error);
}

ProbeStep ProbeStream::write(std::string_view bytes) {
  error_code error;
  const asio::const_buffer buffer(bytes.data(), bytes.size());
  if (tls_ != nullptr) {
    co_await asio::async_write(*tls_, buffer, awaiting(error));
    if (error == asio::error::connection_reset || error == asio::error::broken_pipe) {
      // Under TLS 1.3 it may have refused the client's certificate before, which is still to be read.
      char byte = 0;
      error_code ignored;
      co_await tls_->async_read_some(asio::buffer(&byte, 1), awaiting(ignored));
      if (expectation_.alert != 0) co_return unhealthy(tls_failure_text(expectation_, expectation_.alert));
    }
  } else {
    co_await asio::async_write(socket_, buffer, awaiting(error));
  }
  co_return judge(error);
}

ProbeStep ProbeStream::read_some(std::string *bytes, size_t most) {
  const size_t before = bytes->size();
  bytes->resize(std::min(most, before + kReadBytes));
  const asio::mutable_buffer buffer(bytes->data() + before, bytes->size() - before);
  error_code error;
  size_t count = 0;
  if (tls_ != nullptr) {
    count = co_await tls_->async_read_some(buffer, awaiting(error));
  } else {
    count = co_await socket_.async_read_some(buffer, awaiting(error));
  }
  bytes->resize(before + count);
  if (!bytes->empty()) await(Awaited::kRestOfAnswer);
  co_return judge(error);
}

std::string ProbeStream::tls_version() const {
  return tls_ == nullptr ? "" : SSL_get_version(tls_->native_handle());
}

}  // namespace sluice
