#include "controlplane/api/gate.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/api/render.h"
#include "controlplane/api/router.h"
#include "controlplane/api/target.h"
#include "controlplane/api/tokens.h"

namespace sluice::api {

namespace {

using nlohmann::ordered_json;

constexpr double kAnonymousPerSecond = 10;
constexpr double kConnectionsPerSecond = 50;  // a TLS handshake costs about a millisecond
constexpr double kLoggedRefusalsPerSecond = 1;
constexpr double kLoggedRefusalsBurst = 20;
constexpr size_t kLoggedTargetBytes = 1024;  // of a path and its query
constexpr const char *kChallenge = "Bearer realm=\"sluice\"";

Response too_many(const std::string &what, std::chrono::milliseconds wait) {
  Response response = problem(429, fmt::format("{}; try again in {} s", what, (wait.count() + 999) / 1000));
  response.headers.emplace_back("Retry-After", std::to_string((wait.count() + 999) / 1000));
  return response;
}

// The path without its query, and the query's parameters. Secrets do not belong there, but come.
ordered_json request_json(const std::string &method, const std::string &text) {
  const std::string clean = without_tokens(text.substr(0, kLoggedTargetBytes));
  ordered_json request = {{"method", method}, {"path", clean.substr(0, clean.find('?'))}};
  const Result<Target> target = parse_target(clean);
  if (!target.ok()) return request;
  for (const auto &[name, value] : target.value().query)  // decoded: a token may have been escaped
    request["parameters"][without_tokens(name)] = without_tokens(value);
  return request;
}

std::string key_of(const Caller &caller) { return caller.method + " " + caller.identity; }

void add_change(const ChangeNote &change, ordered_json *line) {
  (*line)["outcome"] = change.outcome;
  if (change.revision != 0) (*line)["revision"] = change.revision;
  if (!change.before.is_null()) (*line)["old"] = change.before;
  if (!change.after.is_null()) (*line)["new"] = change.after;
}

// Root and sluiced's own user can end sluiced; they need no limit.
bool is_unlimited(const Peer &peer) {
  return peer.local && (peer.local->uid == 0 || peer.local->uid == geteuid());
}

}  // namespace

Gate::Gate()
    : requests_(1, 1),
      anonymous_(kAnonymousPerSecond, 2 * kAnonymousPerSecond),
      failures_(1, 1),
      connections_(kConnectionsPerSecond, 2 * kConnectionsPerSecond),
      refusals_(kLoggedRefusalsPerSecond, kLoggedRefusalsBurst),
      turns_(std::make_shared<std::unordered_map<std::string, size_t>>()) {
  use({}, {});
}

void Gate::use(Access access, const model::ApiLimits &limits) {
  access_ = std::move(access);
  requests_.set_rate(limits.requests_per_second, 2.0 * limits.requests_per_second);
  failures_.set_rate(limits.failures_per_minute / 60.0, limits.failures_per_minute);
}

void Gate::log_to(AuditLog changes, AuditLog refusals) {
  change_log_.emplace(std::move(changes));
  refusal_log_.emplace(std::move(refusals));
}

bool Gate::may_connect(const Peer &peer, Clock::time_point now) {
  return !connections_.take(peer.limit_key, now);
}

Gate::Turn Gate::begin_turn(const Peer &peer, const Caller &caller) {
  const std::string key = caller.grant ? key_of(caller) : "address " + peer.limit_key;
  size_t &count = (*turns_)[key];
  if (count >= kMaxTurns && !is_unlimited(peer)) return nullptr;
  count++;
  return {this, [turns = turns_, key](void *) {
            const auto found = turns->find(key);
            if (--found->second == 0) turns->erase(found);
          }};
}

std::variant<Caller, Response> Gate::admit(const Peer &peer, const RequestHead &head, Clock::time_point now) {
  const Need need = needed(head.method, head.target);
  if (need.role == kEverybody) {
    const auto wait = is_unlimited(peer) ? std::nullopt : anonymous_.take(peer.limit_key, now);
    if (wait) return too_many("too many requests from this address", *wait);
    return Caller{"", "", peer.text, std::nullopt};
  }
  std::variant<Caller, Denial> known = access_.identify(peer, head.authorization, std::time(nullptr));
  if (const Denial *denial = std::get_if<Denial>(&known)) return deny(peer, head, *denial, now);
  Caller &caller = std::get<Caller>(known);
  if (!is_unlimited(peer)) {
    const auto wait = requests_.take(key_of(caller), now);
    if (wait) {
      Response response = too_many(fmt::format("too many requests of {}", caller.identity), *wait);
      note({.method = head.method, .target = head.target, .caller = caller}, response, now);
      return response;
    }
  }
  if (caller.grant->role < need.role) {
    Response response = forbidden(need.role, caller);
    note({.method = head.method, .target = head.target, .caller = caller}, response, now);
    return response;
  }
  return std::move(caller);
}

Response Gate::deny(const Peer &peer, const RequestHead &head, const Denial &denial, Clock::time_point now) {
  Response response = problem(denial.kind == Denial::Kind::kNoGrant ? 403 : 401, denial.detail);
  if (denial.kind == Denial::Kind::kBadCredentials) {
    response.headers.emplace_back("WWW-Authenticate", std::string(kChallenge) + ", error=\"invalid_token\"");
    const auto wait = is_unlimited(peer) ? std::nullopt : failures_.take(peer.limit_key, now);
    if (wait) response = too_many("too many refused tokens and certificates from this address", *wait);
  } else if (denial.kind == Denial::Kind::kNoCredentials) {
    response.headers.emplace_back("WWW-Authenticate", kChallenge);
  }
  note_refusal(peer.limit_key,
               {{"event", "refused"},
                {"from", peer.text},
                {"request", request_json(head.method, head.target)},
                {"status", response.status},
                {"detail", denial.detail}},
               now);
  return response;
}

void Gate::note_handshake_failure(const Peer &peer, const std::string &why, Clock::time_point now) {
  failures_.take(peer.limit_key, now);
  note_refusal(peer.limit_key, {{"event", "refused"}, {"from", peer.text}, {"detail", why}}, now);
}

void Gate::note(const Request &request, const Response &response, Clock::time_point now) {
  // Whatever has changed nothing: it is many times cheaper to ask for than a change, and must not push
  // changes out of their log.
  const bool refused =
      response.status >= 400 && (response.change || response.status == 403 || response.status == 429);
  if (!refused && !response.change) return;
  const Caller &caller = request.caller;
  ordered_json line = {{"event", refused ? "refused" : "change"},
                       {"identity", caller.identity},
                       {"role", caller.grant ? model::role_name(caller.grant->role) : ""},
                       {"method", caller.method},
                       {"from", caller.from},
                       {"request", request_json(request.method, request.target)},
                       {"status", response.status}};
  if (refused) {
    if (response.change) add_change(*response.change, &line);
    return note_refusal(key_of(caller), std::move(line), now);
  }
  const std::string &outcome = response.change->outcome;
  if (outcome == "unchanged" || outcome == "planned") return;  // a heartbeat, what was so already, a dry run
  add_change(*response.change, &line);
  if (change_log_) change_log_->append(line);
}

void Gate::note_order(const std::string &who, const std::string &what, const ChangeNote &change) {
  ordered_json line = {
      {"event", "change"}, {"identity", who}, {"method", "signal"}, {"request", {{"method", what}}}};
  add_change(change, &line);
  if (change_log_) change_log_->append(line);
}

void Gate::note_refusal(const std::string &key, ordered_json line, Clock::time_point now) {
  if (!refusal_log_) return;
  if (refusals_.take(key, now)) {
    suppressed_++;
    return;
  }
  if (suppressed_ > 0) line["suppressed_before"] = std::exchange(suppressed_, 0);
  refusal_log_->append(line);
}

}  // namespace sluice::api
