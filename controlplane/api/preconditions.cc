#include "controlplane/api/preconditions.h"

#include <algorithm>
#include <string_view>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/render.h"

namespace sluice::api {

namespace {

constexpr size_t kMaxKeyLength = 255;

void skip_spaces(std::string_view &text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
}

// Takes one entity tag off the front; nothing when there is none.
std::optional<std::string> take_tag(std::string_view &text) {
  const bool is_weak = text.starts_with("W/");
  const size_t start = is_weak ? 2 : 0;
  if (text.size() <= start || text[start] != '"') return std::nullopt;
  const size_t end = text.find('"', start + 1);
  if (end == std::string_view::npos) return std::nullopt;
  std::string tag(text.substr(0, end + 1));
  text.remove_prefix(end + 1);
  return tag;
}

// Whether the list has the tag; nothing when it is no list. Comparison is strong, so a weak tag is no match.
std::optional<bool> list_has(std::string_view list, const std::string &wanted) {
  bool has = false;
  while (true) {
    skip_spaces(list);
    const auto tag = take_tag(list);
    if (!tag) return std::nullopt;
    has = has || *tag == wanted;
    skip_spaces(list);
    if (list.empty()) return has;
    if (list.front() != ',') return std::nullopt;
    list.remove_prefix(1);
  }
}

bool is_key(const std::string &text) {
  return !text.empty() && text.size() <= kMaxKeyLength &&
         std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

std::string entity_tag(const std::string &version) { return "\"" + version + "\""; }

std::optional<Response> failed_precondition(const std::string &if_match, const std::string &version) {
  if (if_match.empty() || if_match == "*") return std::nullopt;
  const std::string now = entity_tag(version);
  const std::optional<bool> has = list_has(if_match, now);
  if (!has) return problem(400, "the header If-Match is no list of entity tags such as \"6a30c1-5\"");
  if (*has) return std::nullopt;
  Response response = problem(
      412, fmt::format("something has changed since: this is now version {}; read it again, and decide again",
                       now));
  response.headers.emplace_back("ETag", now);
  return response;
}

void IdempotencyMemory::erase(std::list<Entry>::iterator entry) {
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

// What is old, and room for one more of this identity, at the cost of its own oldest.
void IdempotencyMemory::forget(Clock::time_point now, const std::string &identity) {
  while (!entries_.empty() && now - entries_.front().made >= kKept) erase(entries_.begin());
  const auto is_theirs = [&](const Entry &entry) { return entry.key.first == identity; };
  const auto theirs = static_cast<size_t>(std::ranges::count_if(entries_, is_theirs));
  if (theirs >= kMaxPerIdentity) erase(std::ranges::find_if(entries_, is_theirs));
  if (entries_.size() >= kMaxEntries) erase(entries_.begin());
}

Response IdempotencyMemory::once(const Request &request, Clock::time_point now,
                                 const std::function<Response(const Request &)> &answer) {
  if (request.idempotency_key.empty() || request.method != "POST") return answer(request);
  if (!is_key(request.idempotency_key)) {
    return problem(
        400, fmt::format("the header Idempotency-Key has 1 to {} visible ASCII characters", kMaxKeyLength));
  }
  const std::string identity = request.caller.method + " " + request.caller.identity;
  const std::string text = request.method + " " + request.target + "\n" + request.body;
  const auto known = by_key_.find({identity, request.idempotency_key});
  if (known != by_key_.end() && now - known->second->made < kKept) {
    if (known->second->request != text) {
      return problem(422, "this Idempotency-Key was used for another request; use a new one");
    }
    Response repeated = known->second->response;
    repeated.change.reset();  // it is in the audit log already
    repeated.headers.emplace_back("Idempotency-Replayed", "true");
    return repeated;
  }
  Response response = answer(request);
  if (response.status != 200 || !response.change) return response;
  forget(now, identity);
  entries_.push_back({{identity, request.idempotency_key}, text, response, now});
  by_key_[entries_.back().key] = std::prev(entries_.end());
  return response;
}

}  // namespace sluice::api
