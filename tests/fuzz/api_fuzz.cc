// Any bytes as a request to the API: parsed as the server parses them, routed, answered. Never a crash,
// and always an answer that is JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include "controlplane/api/gate.h"
#include "controlplane/api/http_messages.h"
#include "controlplane/api/router.h"
#include "tests/controlplane/api/fixed_control.h"

namespace {

namespace http = boost::beast::http;

void answer(const sluice::api::Request &request) {
  sluice::api::FixedControl control;
  const sluice::api::Response response = sluice::api::handle(request, control);
  if (response.status < 200 || response.status > 599) std::abort();
  const bool is_metrics = response.content_type.starts_with("text/plain");
  if (!is_metrics && !nlohmann::json::accept(response.body)) std::abort();
  const bool problem = response.content_type == "application/problem+json";
  if (problem != (response.status >= 400)) std::abort();
}

// Nobody has a token or a certificate here: whatever the header says, nobody becomes somebody.
void admit(const sluice::api::RequestHeader &message) {
  static sluice::api::Gate gate;
  sluice::api::Peer peer;
  peer.limit_key = "192.0.2.1";
  const auto head = sluice::api::head_of(message);
  if (!head.ok()) return;
  const auto admitted = gate.admit(peer, head.value(), sluice::api::Gate::Clock::now());
  const auto *caller = std::get_if<sluice::api::Caller>(&admitted);
  if (caller != nullptr && caller->grant) std::abort();
}

sluice::api::Caller scoped_operator() {
  return {"ci", "token", "192.0.2.1:1", sluice::model::Grant{sluice::model::Role::kOperator, {{"web"}}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // As HTTP; and, since few inputs are, as "method target body" too.
  http::request_parser<http::string_body> parser;
  parser.eager(true);
  boost::system::error_code error;
  parser.put(boost::asio::buffer(data, size), error);
  if (!error && parser.is_done()) {
    const auto &message = parser.get();
    sluice::api::Request request{.method = std::string(message.method_string()),
                                 .target = std::string(message.target()),
                                 .body = message.body(),
                                 .caller = sluice::api::administrator()};
    take_fields(message, &request);
    admit(message);
    answer(request);
  }
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  const size_t method_end = std::min(text.find(' '), text.size());
  const size_t target_end = std::min(text.find(' ', method_end + 1), text.size());
  const size_t target_start = std::min(method_end + 1, target_end);
  answer({.method = std::string(text.substr(0, method_end)),
          .target = std::string(text.substr(target_start, target_end - target_start)),
          .body = std::string(text.substr(target_end)),
          .caller = scoped_operator(),
          .if_match = std::string(text.substr(target_end))});
  return 0;
}
