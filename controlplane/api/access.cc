#include "controlplane/api/access.h"

#include <algorithm>
#include <charconv>

#include <grp.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/api/tokens.h"
#include "controlplane/config/token_file.h"
#include "controlplane/health/probes/small_file.h"

namespace sluice::api {

namespace {

constexpr size_t kAccountBytes = 64 * 1024;  // of one entry of the host's database

std::optional<uint32_t> parse_id(const std::string &text) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return id;
}

// A hash that somebody else may write is a token that somebody else may make.
Status check_writers(const std::string &file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return Done{};  // reading it says why
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return Done{};
  return Error{"others than its owner may write it; chmod go-w"};
}

}  // namespace

std::optional<uid_t> find_user(const std::string &name) {
  if (const auto id = parse_id(name)) return *id;
  passwd entry{};
  passwd *found = nullptr;
  std::vector<char> buffer(kAccountBytes);
  getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->pw_uid);
}

std::optional<gid_t> find_group(const std::string &name) {
  if (const auto id = parse_id(name)) return *id;
  group entry{};
  group *found = nullptr;
  std::vector<char> buffer(kAccountBytes);
  getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->gr_gid);
}

Result<Access> Access::make(const model::ApiSpec &spec) {
  Access access;
  for (const model::CertificateGrant &client : spec.clients)
    access.certificates_.emplace(client.certificate, client.grant);
  if (const Status resolved = access.resolve_local(spec); !resolved.ok()) return resolved.error();
  if (const Status loaded = access.load_tokens_file(spec); !loaded.ok()) return loaded.error();
  return access;
}

Status Access::resolve_local(const model::ApiSpec &spec) {
  has_local_ = spec.has_local;
  for (size_t i = 0; i < spec.local.size(); i++) {
    const model::LocalGrant &from = spec.local[i];
    LocalRule &rule = local_.emplace_back();
    rule.grant = from.grant;
    if (!from.user.empty()) {
      rule.uid = find_user(from.user);
      if (!rule.uid)
        return Error{fmt::format("api.local[{}].user: this host has no user \"{}\"", i, from.user)};
    } else {
      rule.gid = find_group(from.group);
      if (!rule.gid)
        return Error{fmt::format("api.local[{}].group: this host has no group \"{}\"", i, from.group)};
    }
  }
  return Done{};
}

Status Access::load_tokens_file(const model::ApiSpec &spec) {
  if (spec.tokens_file.empty()) return Done{};
  const std::string where = "api.tokens_file: " + spec.tokens_file + ": ";
  if (const Status checked = check_writers(spec.tokens_file); !checked.ok())
    return Error{where + checked.error().message};
  const Result<std::string> text = read_small_file(spec.tokens_file, kMaxTokenFileBytes / 1024);
  if (!text.ok()) return Error{where + text.error().message};
  LoadedTokens loaded = load_tokens(text.value(), spec.tokens_file);
  if (!loaded.ok()) {
    const size_t others = loaded.errors.size() - 1;
    return Error{"api.tokens_file: " + loaded.errors[0].to_string() +
                 (others == 0 ? "" : fmt::format(" (and {} more)", others))};
  }
  tokens_ = std::move(loaded.tokens);
  return Done{};
}

std::variant<Caller, Denial> Access::identify(const Peer &peer, std::string_view authorization,
                                              int64_t unix_s) const {
  if (!authorization.empty()) return by_token(peer, authorization, unix_s);
  if (peer.local) return by_process(peer);
  return by_certificate(peer);
}

// Each token is compared, to its last byte: the time says nothing of how near a guess was.
std::variant<Caller, Denial> Access::by_token(const Peer &peer, std::string_view authorization,
                                              int64_t unix_s) const {
  using enum Denial::Kind;
  const auto token = parse_bearer(authorization);
  if (!token) return Denial{kBadCredentials, "the Authorization header has no bearer token"};
  const TokenHash hash = hash_token(*token);
  const model::ApiToken *found = nullptr;
  for (const model::ApiToken &each : tokens_)
    if (CRYPTO_memcmp(each.sha256.data(), hash.data(), hash.size()) == 0) found = &each;
  if (found == nullptr) return Denial{kBadCredentials, "this token is not known"};
  if (found->expires_unix_s && unix_s >= *found->expires_unix_s) {
    return Denial{kBadCredentials, fmt::format("token \"{}\" has expired on {}", found->name,
                                               format_moment(*found->expires_unix_s))};
  }
  return Caller{found->name, "token", peer.text, found->grant};
}

std::variant<Caller, Denial> Access::by_certificate(const Peer &peer) const {
  using enum Denial::Kind;
  if (peer.certificate_names.empty())
    return Denial{kNoCredentials,
                  "show a bearer token, or a certificate that the API's client_ca has signed"};
  for (const std::string &name : peer.certificate_names) {
    const auto found = certificates_.find(name);
    if (found != certificates_.end()) return Caller{name, "certificate", peer.text, found->second};
  }
  return Denial{kNoGrant, fmt::format("the certificate is good, but api.clients has no entry for \"{}\"",
                                      peer.certificate_names.front())};
}

// Who could replace sluiced or its configuration anyway is not kept out by a list.
std::variant<Caller, Denial> Access::by_process(const Peer &peer) const {
  const LocalPeer &process = *peer.local;
  Caller caller{fmt::format("uid {}", process.uid), "unix", peer.text,
                model::Grant{.role = model::Role::kAdmin}};
  if (!has_local_ || process.uid == 0 || process.uid == geteuid()) return caller;
  for (const LocalRule &rule : local_) {
    const bool is_meant = (rule.uid && *rule.uid == process.uid) ||
                          (rule.gid && std::ranges::find(process.groups, *rule.gid) != process.groups.end());
    if (!is_meant) continue;
    caller.grant = rule.grant;
    return caller;
  }
  return Denial{Denial::Kind::kNoGrant,
                fmt::format("api.local has no entry for uid {} or one of its groups", process.uid)};
}

}  // namespace sluice::api
