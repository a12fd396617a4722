#include "controlplane/config/cross_check.h"

#include <algorithm>
#include <compare>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>

namespace sluice {
namespace {

constexpr size_t kMaxVips = 65536;
constexpr size_t kMaxPortSpans = 1u << 20;       // port spans, counted once for each VIP they are on
constexpr uint64_t kMaxTotalSlots = 128u << 20;  // 256 MiB of slots in a snapshot

bool is_before(TextPlace a, TextPlace b) { return std::tie(a.line, a.column) < std::tie(b.line, b.column); }

std::string element(const char *list, size_t index, const std::string &rest) {
  return std::string(list) + "[" + std::to_string(index) + "]" + rest;
}

std::string span_text(model::PortSpan span) {
  if (span.is_all()) return "all";
  if (span.first == span.last) return std::to_string(span.first);
  return std::to_string(span.first) + "-" + std::to_string(span.last);
}

// One port span on one VIP and protocol.
struct Claim {
  Address vip{};
  model::Protocol protocol = model::Protocol::kTcp;
  model::PortSpan span;
  const PlacedService *service = nullptr;
  TextPlace place;
  std::string port;  // field under the service
};

class CrossCheck {
 public:
  CrossCheck(const PlacedState &placed, ErrorList &errors) : placed_(placed), errors_(errors) {}

  void run() {
    check_counts();
    check_service_names();
    check_granted_services();
    check_pools();
    check_service_pools();
    if (check_vips()) check_ports();
  }

 private:
  void check_counts() {
    if (placed_.services.size() > kMaxServices) {
      too_many(placed_.services[kMaxServices].place, "services", placed_.services.size(), kMaxServices);
    }
    // Those have a second table while a service of theirs is below its quorum.
    std::set<std::string_view> served_whole;
    for (const PlacedService &service : placed_.services) {
      if (service.quorum && service.quorum->quorum.action == model::QuorumAction::kServeAll)
        served_whole.insert(service.pool.value);
    }
    size_t backends = 0;
    uint64_t slots = 0;
    for (const PlacedPool &pool : placed_.pools) {
      const bool had_room = backends < kMaxBackends;
      backends += pool.backends.size();
      if (had_room && backends >= kMaxBackends) {
        too_many(pool.name.place, element("pools", pool.index, ".backends"), backends, kMaxBackends - 1);
      }
      const bool slots_had_room = slots <= kMaxTotalSlots;
      slots += uint64_t{pool.slots.value} * (served_whole.contains(pool.name.value) ? 2 : 1);
      if (slots_had_room && slots > kMaxTotalSlots) {
        errors_.add(pool.slots.place, element("pools", pool.index, ".slots"), "",
                    "all pools up to this one have " + std::to_string(slots) + " slots; allowed: " +
                        std::to_string(kMaxTotalSlots) + " in all; give pools fewer slots");
      }
    }
  }

  void too_many(TextPlace place, const std::string &field, size_t count, size_t limit) {
    errors_.add(
        place, field, "",
        "there are " + std::to_string(count) + " up to here; allowed: " + std::to_string(limit) + " in all");
  }

  // Notes an error for a name that the list already has.
  void check_name(std::unordered_map<std::string_view, TextPlace> *names, const Placed<std::string> &name,
                  const std::string &field, const char *what) {
    if (name.value.empty()) return;
    const auto [first, is_new] = names->emplace(name.value, name.place);
    if (is_new) return;
    errors_.add(name.place, field, name.value,
                std::string("another ") + what + " is named " + in_quotes(name.value) + ", in line " +
                    std::to_string(first->second.line) + "; names must be unique");
  }

  // Whoever writes a scope means a service that is there: a mistyped one would leave somebody without rights.
  void check_granted_services() {
    std::set<std::string_view> names;
    for (const PlacedService &service : placed_.services) names.insert(service.name.value);
    for (const GrantedService &granted : placed_.api.granted) {
      if (names.contains(granted.name.value)) continue;
      errors_.add(granted.name.place, granted.field, granted.name.value,
                  "there is no service " + in_quotes(granted.name.value) +
                      "; add it to \"services\" or name another");
    }
  }

  void check_service_names() {
    std::unordered_map<std::string_view, TextPlace> names;
    for (const PlacedService &service : placed_.services) {
      check_name(&names, service.name, element("services", service.index, ".name"), "service");
    }
  }

  void check_pools() {
    std::unordered_map<std::string_view, TextPlace> names;
    for (const PlacedPool &pool : placed_.pools) {
      check_name(&names, pool.name, element("pools", pool.index, ".name"), "pool");
      check_backends(pool);
      if (pool.backends.size() <= pool.slots.value) continue;
      errors_.add(pool.slots.place, element("pools", pool.index, ".slots"), std::to_string(pool.slots.value),
                  in_quotes(std::to_string(pool.slots.value)) + " slots are fewer than the pool's " +
                      std::to_string(pool.backends.size()) +
                      " backends; allowed: a prime of about 100 times as many");
    }
  }

  void check_backends(const PlacedPool &pool) {
    std::unordered_map<std::string_view, TextPlace> names;
    std::map<Address, const PlacedBackend *> addresses;
    for (const PlacedBackend &backend : pool.backends) {
      const std::string prefix = element("pools", pool.index, element(".backends", backend.index, ""));
      check_name(&names, backend.name, prefix + ".name", "backend of this pool");
      if (backend.address.value == Address{}) continue;
      const auto [first, is_new] = addresses.emplace(backend.address.value, &backend);
      if (is_new) continue;
      const std::string text = format_address(backend.address.value);
      errors_.add(backend.address.place, prefix + ".address", text,
                  in_quotes(text) + " is also the address of backend " +
                      in_quotes(first->second->name.value) +
                      " of this pool; give one backend more weight instead");
    }
  }

  void check_service_pools() {
    if (!placed_.has_pools) return;  // there is an error about that already
    std::unordered_map<std::string_view, const PlacedPool *> pools;
    for (const PlacedPool &pool : placed_.pools) pools.emplace(pool.name.value, &pool);
    const auto check_pool = [&](const Placed<std::string> &pool, size_t service, const char *field) {
      if (pool.value.empty() || pools.contains(pool.value)) return;
      errors_.add(pool.place, element("services", service, field), pool.value,
                  "there is no pool " + in_quotes(pool.value) + "; add it to \"pools\" or name another");
    };
    for (const PlacedService &service : placed_.services) {
      check_pool(service.pool, service.index, ".pool");
      if (!service.quorum) continue;
      check_reach(service, pools);
      const Placed<std::string> &backup = service.quorum->backup_pool;
      check_pool(backup, service.index, ".quorum.backup_pool");
      if (backup.value.empty() || backup.value != service.pool.value) continue;
      errors_.add(backup.place, element("services", service.index, ".quorum.backup_pool"), backup.value,
                  in_quotes(backup.value) + " is the service's own pool; name another");
    }
  }

  // A quorum of more backends than there ever are would never be met. What a pool finds is not known here.
  void check_reach(const PlacedService &service,
                   const std::unordered_map<std::string_view, const PlacedPool *> &pools) {
    const auto pool = pools.find(service.pool.value);
    if (pool == pools.end() || pool->second->pool.discovery.finds()) return;
    const model::Quorum &quorum = service.quorum->quorum;
    const size_t backends = pool->second->backends.size();
    if (quorum.recover.is_percent || quorum.recover.number <= backends) return;
    errors_.add(service.place, element("services", service.index, ".quorum"), "",
                "asks for " + std::to_string(quorum.recover.number) + " backends, and pool " +
                    in_quotes(service.pool.value) + " has " + std::to_string(backends) +
                    ": it would never be met; give a share, or the pool more backends");
  }

  // Whether the VIPs and port spans are few enough to look at one by one.
  bool check_vips() {
    std::map<Address, TextPlace> vips;
    size_t spans = 0;
    for (const PlacedService &service : placed_.services) {
      std::map<Address, TextPlace> own;
      for (const Placed<Address> &vip : service.vips) {
        vips.emplace(vip.value, vip.place);
        const auto [first, is_new] = own.emplace(vip.value, vip.place);
        if (is_new) continue;
        const std::string text = format_address(vip.value);
        errors_.add(vip.place, element("services", service.index, element(".vips", vip.index, "")), text,
                    in_quotes(text) + " is there twice in this service; remove one");
      }
      spans += own.size() * service.ports.size();
      if (vips.size() > kMaxVips) {
        too_many(service.place, element("services", service.index, ".vips"), vips.size(), kMaxVips);
        return false;
      }
      if (spans > kMaxPortSpans) {
        too_many(service.place, element("services", service.index, ".ports"), spans, kMaxPortSpans);
        return false;
      }
    }
    check_backends_are_no_vips(vips);
    return true;
  }

  void check_backends_are_no_vips(const std::map<Address, TextPlace> &vips) {
    for (const PlacedPool &pool : placed_.pools) {
      for (const PlacedBackend &backend : pool.backends) {
        const auto vip = vips.find(backend.address.value);
        if (vip == vips.end()) continue;
        const std::string text = format_address(backend.address.value);
        errors_.add(backend.address.place,
                    element("pools", pool.index, element(".backends", backend.index, ".address")), text,
                    in_quotes(text) + " is a VIP too, in line " + std::to_string(vip->second.line) +
                        ": its packets would come back here; give the backend's own address");
      }
    }
  }

  std::vector<Claim> claims() const {
    std::vector<Claim> claims;
    for (const PlacedService &service : placed_.services) {
      if (!service.protocol) continue;
      std::map<Address, bool> own;
      for (const Placed<Address> &vip : service.vips) {
        if (!own.emplace(vip.value, true).second) continue;
        for (const Placed<model::PortSpan> &port : service.ports) {
          claims.push_back({vip.value, *service.protocol, port.value, &service, port.place,
                            port.value.is_all() ? ".ports" : element(".ports", port.index, "")});
        }
      }
    }
    return claims;
  }

  // Sorted so that a span comes right before what it contains, a stack of the spans around the current
  // one tells nesting (fine), equality and partial overlap (errors) apart.
  void check_ports() {
    std::vector<Claim> sorted = claims();
    std::ranges::stable_sort(sorted, {}, [](const Claim &claim) {
      return std::tuple(claim.vip, claim.protocol, claim.span.first, -int32_t{claim.span.last});
    });
    std::vector<const Claim *> around;
    for (const Claim &claim : sorted) {
      const auto ends_before = [&](const Claim *outer) {
        return outer->vip != claim.vip || outer->protocol != claim.protocol ||
               outer->span.last < claim.span.first;
      };
      while (!around.empty() && ends_before(around.back())) around.pop_back();
      if (!around.empty() && around.back()->span == claim.span) {
        conflict(*around.back(), claim, "is taken");
        continue;
      }
      if (!around.empty() && around.back()->span.last < claim.span.last) {
        conflict(*around.back(), claim, "overlaps");
        continue;
      }
      around.push_back(&claim);
    }
  }

  // Tells it where the later of the two is written.
  void conflict(const Claim &a, const Claim &b, const std::string &how) {
    const Claim &first = is_before(b.place, a.place) ? b : a;
    const Claim &second = is_before(b.place, a.place) ? a : b;
    const std::string where = " on VIP " + format_address(second.vip) + " by service " +
                              in_quotes(first.service->name.value) + " in line " +
                              std::to_string(first.place.line);
    const std::string span = span_text(second.span);
    const std::string message = how == "is taken"
                                    ? in_quotes(span) + " is taken" + where + "; give it to one service"
                                    : in_quotes(span) + " overlaps " + span_text(first.span) + where +
                                          "; ranges may contain each other or be apart, not overlap in part";
    errors_.add(second.place, element("services", second.service->index, second.port), span, message);
  }

  const PlacedState &placed_;
  ErrorList &errors_;
};

}  // namespace

void check_across(const PlacedState &placed, ErrorList &errors) { CrossCheck(placed, errors).run(); }

}  // namespace sluice
