// What libcurl says of a finished check, as an outcome and a sentence for the operator.
#ifndef SLUICE_CONTROLPLANE_HEALTH_CHECK_TEXT_H
#define SLUICE_CONTROLPLANE_HEALTH_CHECK_TEXT_H

#include <chrono>
#include <string>

#include "controlplane/health/check.h"

namespace sluice {

/// How far a transfer came, and what ended it.
struct TransferEnd {
  int curl_code = 0;       // CURLcode
  int system_error = 0;    // errno of a failed connect, 0 if there is none
  bool no_source = false;  // this host has no address to reach the backend from
  long http_status = 0;    // 0: no status line was seen
  bool connected = false;  // the TCP handshake was completed
  bool body_cut = false;   // the body was longer than a check reads: ended by us, judged by its status
};

/// The outcome of a check of `spec` that ended as `end` says.
CheckResult judge_check(const CheckSpec &spec, const TransferEnd &end);

/// "500ms", "2s".
std::string duration_text(std::chrono::milliseconds duration);

}  // namespace sluice

#endif
