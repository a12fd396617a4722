// The client of sluiced's REST API on its Unix socket.
#ifndef SLUICE_TOOLS_SLUICECTL_CLIENT_H
#define SLUICE_TOOLS_SLUICECTL_CLIENT_H

#include <string>

#include "dataplane/abi/result.h"

namespace sluice::ctl {

struct Answer {
  long status = 0;  // HTTP
  std::string body;
};

/// One request; `body` is sent with POST. Fails only when no answer came: what sluiced says is an answer.
Result<Answer> ask(const std::string &socket_path, const std::string &method, const std::string &target,
                   const std::string &body);

}  // namespace sluice::ctl

#endif
