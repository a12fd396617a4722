#include "controlplane/api/http_messages.h"

#include <iterator>
#include <string>

#include <boost/beast/core.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/api/render.h"
#include "controlplane/api/router.h"

namespace sluice::api {

namespace beast = boost::beast;

Result<RequestHead> head_of(const RequestHeader &header) {
  const auto [begin, end] = header.equal_range(http::field::authorization);
  if (std::distance(begin, end) > 1) return Error{"there is more than one Authorization header"};
  if (header.count(http::field::host) > 1) return Error{"there is more than one Host header"};
  // What a proxy before us may read otherwise (RFC 9112 section 6.1).
  const auto coding = header.equal_range(http::field::transfer_encoding);
  for (auto field = coding.first; field != coding.second; ++field) {
    if (!beast::iequals(field->value(), "chunked") || std::next(coding.first) != coding.second)
      return Error{"the only Transfer-Encoding that this API reads is \"chunked\""};
  }
  // A certificate in a browser is shown for any page that asks; this API has no pages.
  const bool is_read = header.method() == http::verb::get || header.method() == http::verb::head;
  if (!is_read && (header.count(http::field::origin) > 0 || header.count("Sec-Fetch-Site") > 0))
    return Error{"changes are not taken from pages in a browser"};
  return RequestHead{std::string(header.method_string()), std::string(header.target()),
                     begin == end ? std::string() : std::string(begin->value())};
}

void take_fields(const RequestHeader &header, Request *request) {
  const auto [begin, end] = header.equal_range(http::field::if_match);
  for (auto field = begin; field != end; ++field) {
    if (!request->if_match.empty()) request->if_match += ", ";
    request->if_match += std::string(field->value());
  }
  request->idempotency_key = std::string(header["Idempotency-Key"]);
}

std::optional<Response> answer_to_error(const boost::system::error_code &error) {
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

Response too_busy() {
  Response response = problem(
      429, fmt::format("{} requests of yours are being served; read their answers first", Gate::kMaxTurns));
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

http::response<http::string_body> to_http(Response response, unsigned version, bool keep_alive) {
  http::response<http::string_body> message;
  message.version(version);
  message.result(response.status);
  message.set(http::field::server, "sluiced");
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, "no-store");
  for (const auto &[name, value] : response.headers) message.set(name, value);
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  return message;
}

}  // namespace sluice::api
