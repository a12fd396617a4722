// The server's side of the control socket (dataplane/abi/control_protocol.h): many clients, none of
// which can make the dataplane wait, grow or fall.
#ifndef SLUICE_SERVER_CONTROL_SOCKET_H
#define SLUICE_SERVER_CONTROL_SOCKET_H

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/types.h>

#include "dataplane/abi/control_protocol.h"
#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// A well-formed request. `descriptor` is none unless the client passed exactly one.
struct ControlRequest {
  uint64_t id = 0;
  std::string name;
  UniqueFd descriptor;
  nlohmann::json fields;  // the whole message, an object
};

/// The fields of an answer beside protocol, id and ok, and a descriptor to pass with it, if any.
struct ControlAnswer {
  nlohmann::json fields = nlohmann::json::object();
  UniqueFd descriptor;
};

/// Why a message is no request; `id` as far as it could be read, so that the client knows which.
struct ControlMessageError {
  uint64_t id = 0;
  std::string message;
};

/// Parses one message. Never throws. Errors name the field: "protocol: 2, this dataplane speaks 1".
std::variant<ControlRequest, ControlMessageError> parse_control_request(std::string_view message);

struct ControlSocketOptions {
  std::filesystem::path path = SLUICE_CONTROL_SOCKET_PATH;
  mode_t mode = 0660;
  std::optional<gid_t> group;  // whose members may connect; the process's own when absent
  size_t max_clients = 64;
};

/// Listens, reads requests and writes answers, in order, one request of a client at a time: a client
/// that does not read its answers is not read from. A message too large, or with more than one
/// descriptor, is answered with an error; a client whose answer cannot be delivered is disconnected.
class ControlSocket {
 public:
  using Handler = std::function<Result<ControlAnswer>(ControlRequest request)>;

  /// Binds and listens. A socket file that nobody listens on is replaced. Errors: somebody listens,
  /// the path is something else than a socket, too long, or not writable.
  [[nodiscard]] static Result<std::unique_ptr<ControlSocket>> listen(const ControlSocketOptions &options);

  ControlSocket(const ControlSocket &) = delete;
  ControlSocket &operator=(const ControlSocket &) = delete;
  /// Disconnects everybody and removes the socket file, if it is still this one.
  ~ControlSocket();

  /// An epoll descriptor: readable when `process` has something to do.
  int fd() const { return epoll_.get(); }

  /// Accepts, reads, answers through `handler`, never waits. Bounded work per call.
  void process(const Handler &handler);

  size_t client_count() const { return clients_.size(); }

 private:
  struct Client;
  enum class Progress { kContinue, kWait, kDisconnect };

  explicit ControlSocket(const ControlSocketOptions &options);
  void accept_clients();
  void serve(int fd, uint32_t events, const Handler &handler);
  Progress read_request(Client &client, const Handler &handler);
  Progress send_answer(Client &client);

  ControlSocketOptions options_;
  UniqueFd epoll_;
  UniqueFd listener_;
  UniqueFd spare_;  // given up for a moment when descriptors run out, to turn a client away
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::vector<char> buffer_;  // for one message, shared by the clients
  std::map<int, std::unique_ptr<Client>> clients_;
};

}  // namespace sluice

#endif
