#include "controlplane/health/check_text.h"

#include <cerrno>
#include <system_error>

#include <curl/curl.h>
#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

CheckResult success(std::string text) { return {CheckOutcome::kSuccess, std::move(text)}; }
CheckResult failure(std::string text) { return {CheckOutcome::kFailure, std::move(text)}; }

// Errors of connect() and socket() that are this host's, and no news of the backend. EADDRNOTAVAIL means one
// of two things. That all local ports are in use passes by itself. That the host has no source address (an
// interface lost its IPv6 address) stays: as with a missing route, nothing gets from here to the backend, and
// if that changed no state the backend would stay up for ever.
bool is_local_shortage(const TransferEnd &end) {
  const int error = end.system_error;
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
         (error == EADDRNOTAVAIL && !end.no_source);
}

std::string system_text(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "connection refused";
    case ECONNRESET:
      return "connection reset";
    case EHOSTUNREACH:
      return "host unreachable";
    case ENETUNREACH:
      return "network unreachable";
    case ETIMEDOUT:
      return "connection timed out";
    default:
      return "cannot connect: " + std::generic_category().message(error);
  }
}

CheckResult judge_status(const CheckSpec &spec, long status) {
  if (status >= spec.first_status && status <= spec.last_status) {
    return success(fmt::format("HTTP status {}", status));
  }
  const std::string expected = spec.first_status == spec.last_status
                                   ? std::to_string(spec.first_status)
                                   : fmt::format("{}-{}", spec.first_status, spec.last_status);
  return failure(fmt::format("HTTP status {}, expected {}", status, expected));
}

CheckResult judge_timeout(const CheckSpec &spec, const TransferEnd &end) {
  const std::string limit = duration_text(spec.timeout);
  if (!end.connected) return failure("no connection within " + limit);
  if (end.http_status == 0) return failure("no answer within " + limit);
  return failure(
      fmt::format("HTTP status {}, but the answer was not complete within {}", end.http_status, limit));
}

}  // namespace

CheckResult judge_check(const CheckSpec &spec, const TransferEnd &end) {
  switch (end.curl_code) {
    case CURLE_OK:
      return spec.type == CheckType::kTcp ? success("connected") : judge_status(spec, end.http_status);
    case CURLE_OPERATION_TIMEDOUT:
      return judge_timeout(spec, end);
    case CURLE_WRITE_ERROR:
      if (end.body_cut) return judge_status(spec, end.http_status);
      break;
    case CURLE_COULDNT_CONNECT:
      if (is_local_shortage(end)) {
        return {CheckOutcome::kNotCarriedOut,
                "not checked: " + std::generic_category().message(end.system_error) + " on this host"};
      }
      if (end.no_source) return failure("this host has no source address to reach it from");
      if (end.system_error != 0) return failure(system_text(end.system_error));
      return failure("cannot connect");
    case CURLE_OUT_OF_MEMORY:
      return {CheckOutcome::kNotCarriedOut, "not checked: out of memory on this host"};
    case CURLE_GOT_NOTHING:
      return failure("connection closed without an answer");
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      return failure("connection reset");
    case CURLE_PARTIAL_FILE:
      return failure("connection closed in the middle of the answer");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
      return failure("the answer is not HTTP/1");
    default:
      break;
  }
  return failure(curl_easy_strerror(static_cast<CURLcode>(end.curl_code)));
}

std::string duration_text(std::chrono::milliseconds duration) {
  if (duration.count() % 1000 == 0) return std::to_string(duration.count() / 1000) + "s";
  return std::to_string(duration.count()) + "ms";
}

}  // namespace sluice
