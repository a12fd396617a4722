#include "controlplane/health/check_text.h"

#include <curl/curl.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/system_error.h"

namespace sluice {

namespace {

CheckResult judge_timeout(const CheckSpec &spec, const TransferEnd &end) {
  const std::string limit = duration_text(spec.health.timeout);
  if (!end.connected) return unhealthy("no connection within " + limit);
  if (end.http_status == 0) return unhealthy("no answer within " + limit);
  return unhealthy(
      fmt::format("HTTP status {}, but the answer was not complete within {}", end.http_status, limit));
}

// libcurl's text of a failed TLS handshake, without its frame of words.
CheckResult judge_tls(const TransferEnd &end) {
  const std::string_view certificate = "SSL certificate problem: ";
  const size_t found = end.error_text.find(certificate);
  if (found != std::string::npos) return unhealthy(end.error_text.substr(found + certificate.size()));
  return unhealthy("TLS handshake failed: " + end.error_text);
}

}  // namespace

std::optional<CheckResult> judge_transfer(const CheckSpec &spec, const TransferEnd &end) {
  switch (end.curl_code) {
    case CURLE_OK:
      return std::nullopt;
    case CURLE_OPERATION_TIMEDOUT:
      return judge_timeout(spec, end);
    case CURLE_WRITE_ERROR:
      if (end.body_cut) return std::nullopt;
      break;
    case CURLE_COULDNT_CONNECT:
      if (end.system_error != 0) return judge_system_error(end.system_error, spec.address);
      return unhealthy("cannot connect");
    case CURLE_INTERFACE_FAILED:
      return not_carried_out(end.error_text);
    case CURLE_OUT_OF_MEMORY:
      return not_carried_out("out of memory on this host");
    case CURLE_GOT_NOTHING:
      return unhealthy("connection closed without an answer");
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      return unhealthy("connection reset");
    case CURLE_PARTIAL_FILE:
      return unhealthy("connection closed in the middle of the answer");
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
      return judge_tls(end);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
      return unhealthy("the answer is not HTTP/1");
    default:
      break;
  }
  return unhealthy(end.error_text.empty() ? curl_easy_strerror(static_cast<CURLcode>(end.curl_code))
                                          : end.error_text);
}

std::string duration_text(std::chrono::milliseconds duration) {
  if (duration.count() % 1000 == 0) return std::to_string(duration.count() / 1000) + "s";
  return std::to_string(duration.count()) + "ms";
}

}  // namespace sluice
