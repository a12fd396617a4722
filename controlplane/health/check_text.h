// What libcurl says of a finished transfer, as a sentence for the operator.
#ifndef SLUICE_CONTROLPLANE_HEALTH_CHECK_TEXT_H
#define SLUICE_CONTROLPLANE_HEALTH_CHECK_TEXT_H

#include <chrono>
#include <optional>
#include <string>

#include "controlplane/health/check.h"

namespace sluice {

/// How far a transfer came, and what ended it.
struct TransferEnd {
  int curl_code = 0;               // CURLcode
  int system_error = 0;            // errno of a failed connect, 0 if there is none
  long http_status = 0;            // 0: no status line was seen
  bool connected = false;          // the TCP handshake was completed
  bool in_handshake = false;       // the one of TLS has begun and is not complete
  bool certificate_asked = false;  // by the server, of the client
  bool body_cut = false;           // the body was longer than a check reads: ended by us
  std::string error_text;          // libcurl's own words; may be empty
};

/// The failure that a transfer for `spec` ended with; nothing: it brought an answer.
std::optional<CheckResult> judge_transfer(const CheckSpec &spec, const TransferEnd &end);

/// "500ms", "2s".
std::string duration_text(std::chrono::milliseconds duration);

}  // namespace sluice

#endif
