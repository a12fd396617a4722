// Who is who: from a connection and an Authorization header to an identity with its rights.
#ifndef SLUICE_CONTROLPLANE_API_ACCESS_H
#define SLUICE_CONTROLPLANE_API_ACCESS_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/api/caller.h"
#include "controlplane/model/api_access.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

/// Why somebody is not let in.
struct Denial {
  enum class Kind {
    kNoCredentials,   // none were given: 401
    kBadCredentials,  // given, and worth nothing: 401, and a failure that is counted
    kNoGrant,         // it is known who it is, and nothing is configured for them: 403
  };
  Kind kind = Kind::kNoCredentials;
  std::string detail;
};

/// The rules of one configuration, with what its files and the host's accounts say.
class Access {
 public:
  /// Everybody who may open the Unix socket is admin.
  Access() = default;

  /// Reads tokens_file, and looks up users and groups. Errors name the field and the file or account.
  static Result<Access> make(const model::ApiSpec &spec);

  /// `authorization`: the header's text; empty: none was sent.
  std::variant<Caller, Denial> identify(const Peer &peer, std::string_view authorization,
                                        int64_t unix_s) const;

 private:
  struct LocalRule {
    std::optional<uid_t> uid;
    std::optional<gid_t> gid;
    model::Grant grant;
  };

  std::variant<Caller, Denial> by_token(const Peer &peer, std::string_view authorization,
                                        int64_t unix_s) const;
  std::variant<Caller, Denial> by_certificate(const Peer &peer) const;
  std::variant<Caller, Denial> by_process(const Peer &peer) const;
  Status resolve_local(const model::ApiSpec &spec);
  Status load_tokens_file(const model::ApiSpec &spec);

  std::vector<model::ApiToken> tokens_;
  std::map<std::string, model::Grant, std::less<>> certificates_;
  std::vector<LocalRule> local_;
  bool has_local_ = false;
};

/// The number of a user or group, given by name or number; nothing when the host has none of that name.
std::optional<uid_t> find_user(const std::string &name);
std::optional<gid_t> find_group(const std::string &name);

}  // namespace sluice::api

#endif
