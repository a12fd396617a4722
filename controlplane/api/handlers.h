// What each route does. router.cc says which is whose; by then it is known that the caller has the role, and
// what of the path and the query is there.
#ifndef SLUICE_CONTROLPLANE_API_HANDLERS_H
#define SLUICE_CONTROLPLANE_API_HANDLERS_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/api/control.h"
#include "controlplane/api/message.h"
#include "controlplane/api/scope.h"

namespace sluice::api {

/// A matched request.
struct Call {
  const Request &request;
  std::vector<std::string> names;            // what stood in place of "*"
  std::map<std::string, std::string> query;  // only parameters that the route knows
  Control &control;
  Scope scope;

  std::optional<std::string> parameter(const std::string &name) const {
    const auto found = query.find(name);
    return found == query.end() ? std::nullopt : std::optional(found->second);
  }
};

Response get_health(const Call &call);
Response get_readiness(const Call &call);
Response get_status(const Call &call);
Response get_services(const Call &call);
Response get_service(const Call &call);
Response get_backends(const Call &call);
Response get_connections(const Call &call);
Response get_counters(const Call &call);
Response get_metrics(const Call &call);
Response get_discovery(const Call &call);
Response get_explain(const Call &call);

Response get_configuration(const Call &call);
Response get_revisions(const Call &call);
Response get_revision(const Call &call);
Response get_revision_document(const Call &call);

Response put_configuration(const Call &call);
Response post_rollback(const Call &call);
Response post_confirm(const Call &call);
Response patch_backend(const Call &call);
Response post_drain(const Call &call);
Response post_undrain(const Call &call);
Response post_maintenance(const Call &call);
Response delete_maintenance(const Call &call);
Response put_registration(const Call &call);
Response delete_registration(const Call &call);
Response post_reload(const Call &call);
Response post_check_config(const Call &call);

/// 403 for what a scope does not have, whether it is there or not.
Response out_of_scope(const Call &call, const std::string &what);

/// A number of at most `largest`; nothing for any other text.
std::optional<uint64_t> parse_number(const std::string &text, uint64_t largest);

}  // namespace sluice::api

#endif
