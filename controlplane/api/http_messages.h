// Between Beast's messages and the API's own.
#ifndef SLUICE_CONTROLPLANE_API_HTTP_MESSAGES_H
#define SLUICE_CONTROLPLANE_API_HTTP_MESSAGES_H

#include <optional>

#include <boost/beast/http.hpp>

#include "controlplane/api/gate.h"
#include "controlplane/api/message.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

namespace http = boost::beast::http;
using RequestHeader = http::request<http::string_body>;

/// What the gate looks at. Fails when there are two Authorization headers: which one counts is anybody's
/// guess.
Result<RequestHead> head_of(const RequestHeader &header);

/// If-Match and Idempotency-Key.
void take_fields(const RequestHeader &header, Request *request);

/// How a request that could not be read is answered; nothing when there is nobody to answer.
std::optional<Response> answer_to_error(const boost::system::error_code &error);

/// 429: the identity has as many requests in service as it may.
Response too_busy();

http::response<http::string_body> to_http(Response response, unsigned version, bool keep_alive);

}  // namespace sluice::api

#endif
