// sluicectl explain: of a connection or a captured packet, what the dataplane would do with it, and why.
#ifndef SLUICE_TOOLS_SLUICECTL_EXPLAIN_H
#define SLUICE_TOOLS_SLUICECTL_EXPLAIN_H

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "dataplane/abi/result.h"
#include "tools/sluicectl/commands.h"

namespace sluice::ctl {

/// What the command line says of the packet; empty: not given.
struct ExplainOptions {
  std::string protocol;  // "tcp" or "udp"
  std::string client;    // "ADDRESS:PORT", IPv6 in brackets
  std::string vip;       // the same
  std::string flags;     // of TCP: "syn", "fin,ack"
  std::string length;    // bytes of the frame
  std::string worker;
  std::string frame;  // hex digits; blanks and colons between them are left out
  std::string capture;
  uint64_t packet = 1;  // of the capture
};

/// Errors: the packet is given in no way or in two, or cannot be read.
Result<Command> explain_command(const ExplainOptions &options);

std::string present_explanation(const nlohmann::json &body);

}  // namespace sluice::ctl

#endif
