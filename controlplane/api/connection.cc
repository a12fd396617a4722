#include "controlplane/api/connection.h"

#include <algorithm>

namespace sluice::api {

void Hub::remove(const Connection *connection) {
  const auto found = std::ranges::find(connections_, connection, [](const auto &each) { return each.get(); });
  if (found == connections_.end()) return;
  connections_.erase(found);
  if (on_room) on_room();
}

void Hub::close_all() {
  on_room = nullptr;
  const std::list<std::shared_ptr<Connection>> ended = std::move(connections_);
  connections_.clear();
  for (const auto &connection : ended) connection->close();
}

void Hub::close_unserved() {
  std::list<std::shared_ptr<Connection>> ended;
  for (auto each = connections_.begin(); each != connections_.end();) {
    const auto next = std::next(each);
    if ((*each)->phase() != Connection::Phase::kBusy) ended.splice(ended.end(), connections_, each);
    each = next;
  }
  for (const auto &connection : ended) connection->close();
}

size_t Hub::count_of(const std::string &limit_key) const {
  return static_cast<size_t>(std::ranges::count_if(
      connections_, [&](const auto &connection) { return connection->peer().limit_key == limit_key; }));
}

bool Hub::make_room() {
  for (const Connection::Phase phase : {Connection::Phase::kStranger, Connection::Phase::kIdle}) {
    const auto found =
        std::ranges::find(connections_, phase, [](const auto &connection) { return connection->phase(); });
    if (found == connections_.end()) continue;
    const std::shared_ptr<Connection> ended = *found;
    connections_.erase(found);
    ended->close();
    return true;
  }
  return false;
}

}  // namespace sluice::api
