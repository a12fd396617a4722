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

#include "controlplane/api/router.h"
#include "tests/controlplane/api/fixed_control.h"

namespace {

namespace http = boost::beast::http;

void answer(const sluice::api::Request &request) {
  sluice::api::FixedControl control;
  const sluice::api::Response response = sluice::api::handle(request, control);
  if (response.status < 200 || response.status > 599) std::abort();
  if (!nlohmann::json::accept(response.body)) std::abort();
  const bool problem = response.content_type == "application/problem+json";
  if (problem != (response.status >= 400)) std::abort();
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
    answer({std::string(message.method_string()), std::string(message.target()), message.body()});
  }
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  const size_t method_end = std::min(text.find(' '), text.size());
  const size_t target_end = std::min(text.find(' ', method_end + 1), text.size());
  const size_t target_start = std::min(method_end + 1, target_end);
  answer({std::string(text.substr(0, method_end)),
          std::string(text.substr(target_start, target_end - target_start)),
          std::string(text.substr(target_end))});
  return 0;
}
