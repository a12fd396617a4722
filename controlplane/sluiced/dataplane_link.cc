#include "controlplane/sluiced/dataplane_link.h"

#include <algorithm>

#include <poll.h>
#include <spdlog/spdlog.h>

namespace sluice {

namespace {

// How long one request may hold up the control loop. A dataplane answers within milliseconds; a large
// snapshot takes it some hundred.
constexpr std::chrono::milliseconds kRequestTimeout{3000};
constexpr std::chrono::milliseconds kFirstBackoff{250};
constexpr std::chrono::milliseconds kLongestBackoff{2000};

}  // namespace

bool DataplaneLink::connect_when_due(Clock::time_point now) {
  if (connected() || now < next_try_) return false;
  return connect_now();
}

bool DataplaneLink::connect_now() {
  if (connected()) return false;
  Result<DataplaneClient> client = DataplaneClient::connect(path_, kRequestTimeout);
  if (client.ok()) {
    client_.emplace(std::move(client).value());
    hello_ = client_->hello();
    backoff_ = std::chrono::milliseconds(0);
    spdlog::info("dataplane: connected to {} (engine {}, version {}, revision {})", path_.native(),
                 hello_.engine, hello_.version, hello_.revision);
    return true;
  }
  if (client.error().message != problem_) {  // each reason once, not each try
    spdlog::warn("dataplane unreachable, trying again: {}", client.error().message);
  }
  problem_ = client.error().message;
  backoff_ = std::clamp(backoff_ * 2, kFirstBackoff, kLongestBackoff);
  next_try_ = Clock::now() + backoff_;
  return false;
}

bool DataplaneLink::notice_loss() {
  if (!client_.has_value()) return false;
  // Nothing is awaited between requests: what can be read is the end.
  pollfd waiting{client_->descriptor(), POLLIN, 0};
  if (poll(&waiting, 1, 0) <= 0) return false;
  drop("it closed the connection");
  return true;
}

void DataplaneLink::drop(const std::string &why) {
  spdlog::warn("dataplane: {}", why);
  problem_ = why;
  client_.reset();
  counters_.reset();
  connections_.reset();
}

std::string DataplaneLink::state() const {
  return connected() ? "connected" : "dataplane unreachable: " + problem_;
}

Error DataplaneLink::unreachable() const {
  return Error{state() +
               "; start sluice-dataplane, or start sluiced with the path of its socket (sluiced "
               "--dataplane-socket PATH)"};
}

// A request that lost the connection says best why: it is what state() tells from then on.
template <typename Value>
Result<Value> DataplaneLink::noticing_loss(Result<Value> answer) {
  if (!answer.ok() && !client_->connected()) drop(answer.error().message);
  return answer;
}

Result<Publication> DataplaneLink::publish(const SnapshotBytes &snapshot) {
  if (!connected()) return unreachable();
  return noticing_loss(client_->publish(snapshot));
}

Result<std::optional<SnapshotBytes>> DataplaneLink::snapshot() {
  if (!connected()) return unreachable();
  return noticing_loss(client_->snapshot());
}

Result<nlohmann::json> DataplaneLink::status() {
  if (!connected()) return unreachable();
  return noticing_loss(client_->status());
}

Result<nlohmann::json> DataplaneLink::explain(const nlohmann::json &fields) {
  if (!connected()) return unreachable();
  return noticing_loss(client_->explain(fields));
}

Result<const CounterView *> DataplaneLink::counters() {
  if (!connected()) return unreachable();
  if (!counters_.has_value()) {
    Result<CounterView> region = noticing_loss(client_->counters());
    if (!region.ok()) return region.error();
    counters_.emplace(std::move(region).value());
  }
  return &*counters_;
}

Result<const ConnectionView *> DataplaneLink::connections() {
  if (!connected()) return unreachable();
  if (!connections_.has_value()) {
    Result<ConnectionView> region = noticing_loss(client_->connections());
    if (!region.ok()) return region.error();
    connections_.emplace(std::move(region).value());
  }
  return &*connections_;
}

}  // namespace sluice
