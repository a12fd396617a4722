#include "controlplane/health/probes/http1_exchange.h"

#include <algorithm>
#include <sstream>

#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/endpoint.h"
#include "controlplane/health/probes/expected_bytes.h"

namespace sluice {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

using Request = http::request<http::empty_body>;

Request request_of(const CheckSpec &spec, const model::HttpCheck &check) {
  constexpr unsigned kHttp11 = 11;
  Request request(http::string_to_verb(check.method), check.path, kHttp11);
  request.set(http::field::host, check.host.empty() ? default_host(spec, check.tls) : check.host);
  request.set(http::field::user_agent, "sluice-health");
  request.set(http::field::accept, "*/*");
  request.set(http::field::connection, "close");
  for (const auto &[name, value] : check.headers) request.insert(name, value);
  return request;
}

// Beast's body in a string takes as much memory as Content-Length says before there is any: this one takes
// what has come, up to what a check looks at, and drops the rest.
struct AnswerBody {
  using value_type = std::string;

  class reader {  // the name that Beast wants
   public:
    template <bool kIsRequest, class Fields>
    reader(const http::header<kIsRequest, Fields> & /*header*/, value_type &body) : body_(body) {}

    static void init(const boost::optional<uint64_t> & /*length*/, error_code &error) { error = {}; }

    template <class Buffers>
    size_t put(const Buffers &buffers, error_code &error) {
      error = {};
      for (auto each = asio::buffer_sequence_begin(buffers); each != asio::buffer_sequence_end(buffers);
           ++each) {
        const asio::const_buffer bytes(*each);
        body_.append(static_cast<const char *>(bytes.data()),
                     std::min(bytes.size(), kMaxAnswerBytes - body_.size()));
      }
      return asio::buffer_size(buffers);
    }

    static void finish(error_code &error) { error = {}; }

   private:
    value_type &body_;
  };
};

}  // namespace

std::string default_host(const CheckSpec &spec, const std::optional<model::TlsOptions> &tls) {
  const bool named = tls && !tls->server_name.empty();
  const std::string host = named ? tls->server_name : address_literal(spec.address);
  return spec.l4_port == (tls ? 443 : 80) ? host : fmt::format("{}:{}", host, spec.l4_port);
}

std::string misread_text(const error_code &error, size_t header_bytes) {
  constexpr size_t kKib = 1024;
  if (error == http::error::header_limit)
    return fmt::format("the answer's header is over {} KiB", header_bytes / kKib);
  if (error == http::error::buffer_overflow)
    return fmt::format("the answer's chunk header or trailer is over {} KiB", kMaxAnswerBytes / kKib);
  if (error == http::error::body_limit) return "the answer's body has no length that a number can hold";
  return "the answer is not HTTP/1";
}

Http1Exchange::Http1Exchange(ProbeContext &context, const CheckSpec &spec, const model::HttpCheck &check)
    : spec_(spec), check_(check), stream_(context, spec) {}

// How reading went.
Ended Http1Exchange::judge(error_code error) {
  if (error == http::error::partial_message) stream_.await(ProbeStream::Awaited::kRestOfAnswer);
  if (error == http::error::partial_message || error == http::error::end_of_stream) error = asio::error::eof;
  const bool is_no_http = error.category() == make_error_code(http::error::bad_version).category();
  if (is_no_http && !stream_.expired()) return unhealthy(misread_text(error, kMaxAnswerBytes));
  const Ended ended = stream_.judge(error);
  if (!ended || !stream_.expired() || status_ == 0) return ended;
  return unhealthy(fmt::format("HTTP status {}, but the answer was not complete within {}", status_,
                               duration_text(spec_.health.timeout)));
}

template <typename Next>
ProbeStep Http1Exchange::read_answer(Next &next, http::verb method) {
  error_code error;
  boost::beast::flat_buffer buffer(kMaxAnswerBytes);
  std::optional<http::response_parser<AnswerBody>> parser;
  do {  // over what comes before the answer (RFC 9110 section 15.2)
    parser.emplace();
    parser->body_limit(UINT64_MAX);  // Boost 1.74 takes none for 0; what is read ends below
    parser->header_limit(kMaxAnswerBytes);
    parser->skip(method == http::verb::head);
    co_await http::async_read_header(next, buffer, *parser, asio::redirect_error(asio::use_awaitable, error));
    if (const Ended ended = judge(error)) co_return ended;
  } while (to_status_class(parser->get().result()) == http::status_class::informational &&
           parser->get().result() != http::status::switching_protocols);
  status_ = parser->get().result_int();
  stream_.await(ProbeStream::Awaited::kRestOfAnswer);
  while (!parser->is_done() && parser->get().body().size() < kMaxAnswerBytes) {
    co_await http::async_read_some(next, buffer, *parser, asio::redirect_error(asio::use_awaitable, error));
    // Of a body that ends with its connection nobody knows whether it is whole.
    if (error == asio::ssl::error::stream_truncated && parser->need_eof()) break;
    if (const Ended ended = judge(error)) co_return ended;
  }
  body_ = std::move(parser->get().body());
  co_return std::nullopt;
}

ProbeStep Http1Exchange::perform() {
  if (const Ended ended = co_await stream_.connect()) co_return ended;
  const Request request = request_of(spec_, check_);
  std::ostringstream text;
  text << request;
  const std::string bytes = text.str();
  if (const Ended ended = co_await stream_.write(bytes)) co_return ended;
  if (stream_.tls() != nullptr) co_return co_await read_answer(*stream_.tls(), request.method());
  co_return co_await read_answer(stream_.socket(), request.method());
}

}  // namespace sluice
