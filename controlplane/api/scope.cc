#include "controlplane/api/scope.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

namespace sluice::api {

const std::vector<std::string> *Scope::services() const {
  static const std::vector<std::string> kNone;
  if (!caller_.grant) return &kNone;
  return caller_.grant->services ? &*caller_.grant->services : nullptr;
}

bool Scope::has_service(const std::string &name) const {
  const std::vector<std::string> *mine = services();
  return mine == nullptr || std::ranges::find(*mine, name) != mine->end();
}

bool Scope::may_read_pool(const std::string &name) const {
  if (is_everything()) return true;
  return std::ranges::any_of(control_.services_of_pool(name),
                             [this](const std::string &service) { return has_service(service); });
}

bool Scope::may_change_pool(const std::string &name) const {
  if (is_everything()) return true;
  const std::vector<std::string> users = control_.services_of_pool(name);
  return !users.empty() &&
         std::ranges::all_of(users, [this](const std::string &service) { return has_service(service); });
}

std::string Scope::text() const {
  const std::vector<std::string> *mine = services();
  return mine == nullptr ? "everything" : fmt::format("services {}", fmt::join(*mine, ", "));
}

}  // namespace sluice::api
