// The client of sluiced's REST API, on its Unix socket or by HTTPS.
#ifndef SLUICE_TOOLS_SLUICECTL_CLIENT_H
#define SLUICE_TOOLS_SLUICECTL_CLIENT_H

#include <string>

#include "dataplane/abi/result.h"

namespace sluice::ctl {

struct Answer {
  long status = 0;  // HTTP
  std::string body;
};

/// Where sluiced is, and who asks.
struct Endpoint {
  std::string socket_path = "/run/sluice/sluiced.sock";
  std::string server;       // "https://HOST:PORT"; empty: the socket
  std::string ca_file;      // that signed the server's certificate; empty: the system's authorities
  std::string certificate;  // file of the client's own; empty: none
  std::string key;          // its file
  std::string token;        // empty: none
};

/// The token in a file's first line. The error names the file.
Result<std::string> read_token(const std::string &file);

/// One request; `body` is sent with POST. Fails only when no answer came: what sluiced says is an answer.
Result<Answer> ask(const Endpoint &endpoint, const std::string &method, const std::string &target,
                   const std::string &body);

}  // namespace sluice::ctl

#endif
