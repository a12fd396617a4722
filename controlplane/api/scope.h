// What of the host an identity's grant is about.
#ifndef SLUICE_CONTROLPLANE_API_SCOPE_H
#define SLUICE_CONTROLPLANE_API_SCOPE_H

#include <optional>
#include <string>
#include <vector>

#include "controlplane/api/caller.h"
#include "controlplane/api/control.h"

namespace sluice::api {

/// Of one request: what is configured may be another thing at the next.
class Scope {
 public:
  /// `caller` and `control` must outlive it.
  Scope(const Caller &caller, Control &control) : caller_(caller), control_(control) {}

  /// Whether it is the whole host.
  bool is_everything() const { return services() == nullptr; }
  bool has_service(const std::string &name) const;
  /// Pools that one of its services uses may be looked at.
  bool may_read_pool(const std::string &name) const;
  /// Pools that its services use, and no other, may be changed: nobody else's connections are in them.
  bool may_change_pool(const std::string &name) const;

  /// nullptr: all.
  const std::vector<std::string> *services() const;
  /// "services a, b", for people.
  std::string text() const;

 private:
  const Caller &caller_;
  Control &control_;
};

}  // namespace sluice::api

#endif
