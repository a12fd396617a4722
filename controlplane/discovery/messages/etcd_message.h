// What etcd's JSON gateway answers (etcd 3.4's api-reference and rpc.proto, "/v3/kv/range" and "/v3/watch"),
// without I/O.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_ETCD_MESSAGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_ETCD_MESSAGE_H

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct EtcdRange {
  int64_t revision = 0;                       // that it was read at
  std::map<std::string, std::string> values;  // by key, both decoded
};

struct EtcdEvent {
  std::string key;
  bool deleted = false;
  std::string value;  // empty if deleted
};

/// One message of a watch.
struct EtcdNews {
  std::vector<EtcdEvent> events;
  bool canceled = false;
  std::string reason;  // of the end, in words
};

/// The bodies of requests. The range, and the watch, are of all keys that begin with `prefix`.
std::string etcd_range_request(std::string_view prefix);
std::string etcd_watch_request(std::string_view prefix, int64_t first_revision);
std::string etcd_login_request(std::string_view username, std::string_view password);

/// Any bytes are safe. Errors say what is wrong in words.
Result<EtcdRange> parse_etcd_range(std::string_view body);
Result<EtcdNews> parse_etcd_news(std::string_view line);
Result<std::string> parse_etcd_token(std::string_view body);
/// Of an answer that is none: etcd's own words.
std::string etcd_error_text(std::string_view body);

/// The backends that keys stand for: each value is a JSON object, the key's last part is the name. What is no
/// backend is skipped, and named by its key.
Answer etcd_backends(const std::map<std::string, std::string> &values, uint16_t weight);

}  // namespace sluice

#endif
