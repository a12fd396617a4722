#include "dataplane/server/control_socket.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace sluice {
namespace {

using Json = nlohmann::json;

constexpr int kListenBacklog = 16;
constexpr int kEventsPerTurn = 16;
constexpr int kAcceptsPerTurn = 16;
constexpr size_t kMaxReceivedDescriptors = 8;  // the kernel closes what does not fit
constexpr int kDeepestNesting = 16;            // of a message's arrays and objects, itself included

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

/// As text; bytes that are no UTF-8 (names come from elsewhere) are replaced, not thrown at us.
std::string to_text(const Json &message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string refusal(uint64_t id, std::string_view error) {
  return to_text({{"protocol", +kControlProtocolVersion}, {"id", id}, {"ok", false}, {"error", error}});
}

/// A field's value for an error message, kept short: of an array or object only that it is one, since
/// writing it out would recurse as deep as whoever sent it likes.
std::string shown(const Json &value) {
  constexpr size_t kLongest = 60;
  if (value.is_structured()) return fmt::format("an {}", value.type_name());
  if (!value.is_string()) return to_text(value);
  const auto &text = value.get_ref<const std::string &>();
  return to_text(text.substr(0, kLongest)) + (text.size() > kLongest ? "..." : "");
}

/// A message as JSON, with what is nested deeper than kDeepestNesting left out.
struct ParsedMessage {
  Json json;
  enum class Depth { kGood, kTooDeep } depth = Depth::kGood;
};

ParsedMessage parse_message(std::string_view message) {
  ParsedMessage parsed;
  const auto keep = [&parsed](int depth, Json::parse_event_t event, const Json & /*value*/) {
    const bool opens =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (!opens || depth < kDeepestNesting) return true;
    parsed.depth = ParsedMessage::Depth::kTooDeep;
    return false;
  };
  parsed.json = Json::parse(message, keep, false);
  return parsed;
}

Result<sockaddr_un> socket_address(const std::filesystem::path &path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof(address.sun_path))
    return Error{fmt::format("{}: a socket's path has at most {} characters", path.string(),
                             sizeof(address.sun_path) - 1)};
  std::memcpy(address.sun_path, path.c_str(), path.native().size());
  return address;
}

/// Removes a socket file that nobody listens on.
Status remove_stale_socket(const std::filesystem::path &path, const sockaddr_un &address) {
  struct stat info = {};
  if (::lstat(path.c_str(), &info) != 0) return Done{};  // nothing there; bind says what else may be wrong
  if (!S_ISSOCK(info.st_mode))
    return Error{fmt::format("{}: exists and is no socket: remove it or choose another path", path.string())};
  const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int connected = ::connect(probe.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address));
  if (connected == 0 || errno != ECONNREFUSED)
    return Error{fmt::format("{}: another process listens on it: stop that one or choose another path",
                             path.string())};
  if (::unlink(path.c_str()) != 0)
    return Error{fmt::format("{}: cannot remove the stale socket: {}", path.string(), errno_text())};
  return Done{};
}

/// One message as it came.
struct Received {
  ssize_t size = 0;  // bytes; 0: the client is gone; -1: errno
  int flags = 0;     // MSG_TRUNC, MSG_CTRUNC
  std::vector<UniqueFd> descriptors;
};

Received receive(int fd, std::span<char> buffer) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxReceivedDescriptors * sizeof(int))> control = {};
  iovec part = {buffer.data(), buffer.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  Received received;
  received.size = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received.size < 0) return received;
  received.flags = message.msg_flags;
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      received.descriptors.emplace_back(descriptor);
    }
  }
  return received;
}

ssize_t send_message(int fd, const std::string &text, int descriptor) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  iovec part = {const_cast<char *>(text.data()), text.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  return ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

struct ControlSocket::Client {
  UniqueFd fd;
  std::string answer;  // not yet taken by the client's socket; empty: ready for a request
  UniqueFd answer_descriptor;
};

std::variant<ControlRequest, ControlMessageError> parse_control_request(std::string_view message) {
  ParsedMessage parsed = parse_message(message);
  const Json &json = parsed.json;
  if (json.is_discarded()) return ControlMessageError{0, "the message is not JSON"};
  if (!json.is_object()) return ControlMessageError{0, "the message is not a JSON object"};
  ControlRequest request;
  const auto id = json.find("id");
  const bool has_id = id != json.end() && id->is_number_unsigned();
  if (has_id) request.id = id->get<uint64_t>();
  if (parsed.depth == ParsedMessage::Depth::kTooDeep)
    return ControlMessageError{request.id,
                               fmt::format("the message is nested deeper than {} levels", kDeepestNesting)};
  const auto protocol = json.find("protocol");
  if (protocol == json.end()) return ControlMessageError{request.id, "protocol: is missing"};
  if (*protocol != +kControlProtocolVersion)
    return ControlMessageError{
        request.id,
        fmt::format("protocol: {}, this dataplane speaks {}: let sluiced and sluice-dataplane be of one "
                    "release",
                    shown(*protocol), +kControlProtocolVersion)};
  if (!has_id) return ControlMessageError{0, "id: is missing or no unsigned number"};
  const auto name = json.find("request");
  if (name == json.end()) return ControlMessageError{request.id, "request: is missing"};
  if (!name->is_string())
    return ControlMessageError{request.id, fmt::format("request: {} is no string", shown(*name))};
  request.name = name->get<std::string>();
  request.fields = std::move(parsed.json);
  return request;
}

ControlSocket::ControlSocket(const ControlSocketOptions &options)
    : options_(options),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      spare_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      buffer_(kControlMessageMaxSize) {}

Result<std::unique_ptr<ControlSocket>> ControlSocket::listen(const ControlSocketOptions &options) {
  const Result<sockaddr_un> address = socket_address(options.path);
  if (!address.ok()) return address.error();
  const Status free = remove_stale_socket(options.path, address.value());
  if (!free.ok()) return free.error();
  std::unique_ptr<ControlSocket> server(new ControlSocket(options));
  const auto fail = [&options](std::string_view what) {
    return Error{fmt::format("{}: cannot {}: {}", options.path.string(), what, errno_text())};
  };
  if (!server->epoll_.valid()) return fail("make an epoll");
  server->listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int fd = server->listener_.get();
  if (fd < 0) return fail("make a socket");
  if (::bind(fd, reinterpret_cast<const sockaddr *>(&address.value()), sizeof(sockaddr_un)) != 0)
    return fail("bind");
  struct stat info = {};
  if (::lstat(options.path.c_str(), &info) != 0) return fail("stat");
  server->device_ = info.st_dev;
  server->inode_ = info.st_ino;
  // Owner and mode before listen: until then nobody can connect.
  if (options.group && ::chown(options.path.c_str(), static_cast<uid_t>(-1), *options.group) != 0)
    return fail("change the group");
  if (::chmod(options.path.c_str(), options.mode) != 0) return fail("change the mode");
  if (::listen(fd, kListenBacklog) != 0) return fail("listen");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(server->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail("watch");
  return server;
}

ControlSocket::~ControlSocket() {
  struct stat info = {};
  if (inode_ != 0 && ::lstat(options_.path.c_str(), &info) == 0 && info.st_dev == device_ &&
      info.st_ino == inode_)
    ::unlink(options_.path.c_str());
}

void ControlSocket::process(const Handler &handler) {
  std::array<epoll_event, kEventsPerTurn> events = {};
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.fd == listener_.get()) {
      accept_clients();
    } else {
      serve(events[i].data.fd, events[i].events, handler);
    }
  }
}

void ControlSocket::accept_clients() {
  for (int i = 0; i < kAcceptsPerTurn; i++) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno != EMFILE && errno != ENFILE) return;
      spdlog::warn("control socket: out of file descriptors, a client is turned away");
      spare_.reset(-1);
      fd.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      fd.reset(-1);
      spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      return;
    }
    if (clients_.size() >= options_.max_clients) {
      send_message(fd.get(),
                   refusal(0, fmt::format("{} clients are connected, no more are served", clients_.size())),
                   -1);
      continue;
    }
    // So that the largest message fits; the kernel's default limit allows it.
    const int buffer_size = 2 * kControlMessageMaxSize;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof(buffer_size));
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd.get();
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) continue;
    auto client = std::make_unique<Client>();
    const int key = fd.get();
    client->fd = std::move(fd);
    clients_[key] = std::move(client);
  }
}

void ControlSocket::serve(int fd, uint32_t events, const Handler &handler) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  Client &client = *found->second;
  Progress progress = Progress::kDisconnect;
  if (!client.answer.empty()) {
    if ((events & (EPOLLHUP | EPOLLERR)) == 0) progress = send_answer(client);
  } else if ((events & EPOLLIN) != 0) {
    progress = read_request(client, handler);
  }
  if (progress == Progress::kDisconnect) {
    clients_.erase(found);
    return;
  }
  epoll_event event = {};
  event.events = progress == Progress::kWait ? EPOLLOUT : EPOLLIN;
  event.data.fd = fd;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

ControlSocket::Progress ControlSocket::read_request(Client &client, const Handler &handler) {
  Received received = receive(client.fd.get(), buffer_);
  if (received.size < 0)
    return errno == EAGAIN || errno == EINTR ? Progress::kContinue : Progress::kDisconnect;
  if (received.size == 0) return Progress::kDisconnect;
  if ((received.flags & MSG_TRUNC) != 0) {
    client.answer = refusal(0, fmt::format("the message is longer than {} bytes", +kControlMessageMaxSize));
    return send_answer(client);
  }
  auto parsed = parse_control_request({buffer_.data(), static_cast<size_t>(received.size)});
  if (const auto *error = std::get_if<ControlMessageError>(&parsed)) {
    client.answer = refusal(error->id, error->message);
    return send_answer(client);
  }
  auto &request = std::get<ControlRequest>(parsed);
  const uint64_t id = request.id;
  if (received.descriptors.size() > 1 || (received.flags & MSG_CTRUNC) != 0) {
    client.answer = refusal(id, "a message may pass one file descriptor, this one passed more");
    return send_answer(client);
  }
  if (!received.descriptors.empty()) request.descriptor = std::move(received.descriptors.front());
  Result<ControlAnswer> result = handler(std::move(request));
  if (result.ok()) {
    Json fields = std::move(result.value().fields);
    fields.update({{"protocol", +kControlProtocolVersion}, {"id", id}, {"ok", true}});
    client.answer = to_text(fields);
    client.answer_descriptor = std::move(result.value().descriptor);
  } else {
    client.answer = refusal(id, result.error().message);
  }
  if (client.answer.size() > kControlMessageMaxSize) {
    client.answer =
        refusal(id, fmt::format("the answer would be longer than {} bytes", +kControlMessageMaxSize));
    client.answer_descriptor.reset(-1);
  }
  return send_answer(client);
}

ControlSocket::Progress ControlSocket::send_answer(Client &client) {
  const ssize_t sent = send_message(client.fd.get(), client.answer, client.answer_descriptor.get());
  if (sent < 0) return errno == EAGAIN || errno == EINTR ? Progress::kWait : Progress::kDisconnect;
  client.answer.clear();
  client.answer_descriptor.reset(-1);
  return Progress::kContinue;
}

}  // namespace sluice
