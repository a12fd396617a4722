// If-Match, ETag and Idempotency-Key: changes that are made once, and of what was seen.
#ifndef SLUICE_CONTROLPLANE_API_PRECONDITIONS_H
#define SLUICE_CONTROLPLANE_API_PRECONDITIONS_H

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "controlplane/api/message.h"

namespace sluice::api {

/// The version in quotes: a strong entity tag (RFC 9110 section 8.8.3).
std::string entity_tag(const std::string &version);

/// 412 when the If-Match header has tags, and none of them is the version's; 400 when it is no list of tags.
/// Nothing for an empty header, and for "*": what is asked for is there or is a 404.
std::optional<Response> failed_precondition(const std::string &if_match, const std::string &version);

/// Answers to requests with an Idempotency-Key, for a client that lost one and asks again.
class IdempotencyMemory {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::hours kKept{1};
  static constexpr size_t kMaxPerIdentity = 256;
  static constexpr size_t kMaxEntries = 4096;

  /// Calls `answer`, and remembers what it says if that was a success (what failed may be tried again); or
  /// repeats what it said to the same identity's same key. 422 when that request was another one, 400 for a
  /// key that is none. Keys count for POST only; other methods can be repeated anyway.
  Response once(const Request &request, Clock::time_point now,
                const std::function<Response(const Request &)> &answer);

  size_t entries() const { return entries_.size(); }

 private:
  using Key = std::pair<std::string, std::string>;  // identity, key
  struct Entry {
    Key key;
    std::string request;  // method, target and body
    Response response;
    Clock::time_point made;
  };

  void forget(Clock::time_point now, const std::string &identity);
  void erase(std::list<Entry>::iterator entry);

  std::list<Entry> entries_;  // the oldest first
  std::map<Key, std::list<Entry>::iterator> by_key_;
};

}  // namespace sluice::api

#endif
