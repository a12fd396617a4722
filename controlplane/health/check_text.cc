#include "controlplane/health/check_text.h"

#include <curl/curl.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/system_error.h"

namespace sluice {

namespace {

CheckResult judge_timeout(const CheckSpec &spec, const TransferEnd &end) {
  const std::string limit = duration_text(spec.health.timeout);
  if (!end.connected) return unhealthy("no connection within " + limit);
  if (end.in_handshake) return unhealthy("TLS handshake not complete within " + limit);
  if (end.http_status == 0) return unhealthy("no answer within " + limit);
  return unhealthy(
      fmt::format("HTTP status {}, but the answer was not complete within {}", end.http_status, limit));
}

bool has(const TransferEnd &end, std::string_view text) {
  return end.error_text.find(text) != std::string::npos;
}

// OpenSSL's reason in libcurl's text, "error:0A000418:SSL routines::tlsv1 alert unknown ca, errno 0"; empty:
// it gives none.
std::string openssl_reason(const TransferEnd &end) {
  const std::string_view before = "SSL routines::";
  const size_t found = end.error_text.find(before);
  if (found == std::string::npos) return "";
  const size_t begin = found + before.size();
  return end.error_text.substr(begin, end.error_text.find(", errno", begin) - begin);
}

// A failed TLS handshake, or a failed connection before it.
CheckResult judge_tls(const TransferEnd &end) {
  const std::string reason = openssl_reason(end);
  if (!reason.empty()) return unhealthy("TLS handshake failed: " + reason);
  if (has(end, "Connection reset")) return unhealthy("connection reset");
  if (has(end, "SSL_ERROR_SYSCALL")) return unhealthy("TLS handshake failed: connection closed");
  return unhealthy("TLS handshake failed: " + end.error_text);
}

// libcurl does not read a server's word on the client's certificate if it cannot write any more.
CheckResult judge_closed(const TransferEnd &end, const std::string &how) {
  if (!end.certificate_asked || end.http_status != 0) return unhealthy(how);
  return unhealthy(how + "; the server had asked for the client's certificate");
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
      // An HTTP/2 connection that only ends is CURLE_PARTIAL_FILE.
      if (model::tls_of(spec.health.kind) == nullptr) return unhealthy("the answer is not HTTP/2");
      return judge_closed(end, "connection closed without an answer");
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      // Under TLS 1.3 a server refuses the client's certificate after the handshake.
      if (!openssl_reason(end).empty()) return judge_tls(end);
      return judge_closed(end, "connection reset");
    case CURLE_PARTIAL_FILE:
      if (end.http_status == 0) return judge_closed(end, "connection closed without an answer");
      return unhealthy("connection closed in the middle of the answer");
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
      return judge_tls(end);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
      return unhealthy("the answer is not HTTP/2");
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
