// The control socket's `explain`: what each stage finds about a frame, in words and as values.
#ifndef SLUICE_SERVER_EXPLAIN_H
#define SLUICE_SERVER_EXPLAIN_H

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dataplane/abi/result.h"
#include "dataplane/server/dry_run.h"

namespace sluice {

struct ExplainRequest {
  std::vector<uint8_t> frame;  // its first bytes
  uint32_t length = 0;         // bytes of the whole frame
  std::optional<uint32_t> worker;
};

/// Reads the message's fields (dataplane/abi/control_protocol.h). Errors name field, value and limits.
[[nodiscard]] Result<ExplainRequest> parse_explain_request(const nlohmann::json &message);

/// What is asked, beside the tables.
struct ExplainContext {
  const LiveTables &live;
  /// CLOCK_BOOTTIME when the snapshot came into force here; none: before this process.
  std::optional<uint64_t> in_force_since_s;
  /// Of a backend: where its packets go, or why they cannot; in words.
  std::function<std::string(uint16_t backend)> next_hop;
  /// The name of Egress::port.
  std::function<std::string(uint16_t port)> port_name;
};

/// The fields of the answer. Nothing is changed by it: no entry, no count, no stamp.
/// Errors: there is no such worker.
[[nodiscard]] Result<nlohmann::json> explain(const ExplainContext &context, const ExplainRequest &request);

}  // namespace sluice

#endif
