// "sluicectl token create": makes a bearer token for the API, without asking sluiced.
#ifndef SLUICE_TOOLS_SLUICECTL_TOKEN_H
#define SLUICE_TOOLS_SLUICECTL_TOKEN_H

#include <cstdint>
#include <string>

#include "tools/sluicectl/commands.h"

namespace sluice::ctl {

struct TokenOptions {
  std::string name;
  std::string role;
  std::string services;  // "a,b"; empty: all
  int64_t lifetime_s = 90 * 24 * 3600;
  std::string file;  // to add the token's line to; empty: it is shown
};

/// Prints the token, which nothing keeps, to `context.out`; its line, which has its hash alone, goes to the
/// end of the file, or to `context.err`. Returns the exit code.
int create_token(const Context &context, const TokenOptions &options, int64_t now_unix_s);

}  // namespace sluice::ctl

#endif
