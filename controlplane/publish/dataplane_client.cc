#include "controlplane/publish/dataplane_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "controlplane/publish/sealed_memfd.h"
#include "dataplane/abi/connection.h"
#include "dataplane/abi/control_protocol.h"
#include "dataplane/abi/counters.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kMaxReceivedDescriptors = 4;       // one is used; the others are closed
constexpr uint64_t kMaxSnapshotBytes = 4ull << 30;  // more than the largest snapshot can have

std::string system_error(const std::string &what) { return what + ": " + std::strerror(errno); }

// Waits until `socket` is ready for `events`; false at the deadline.
bool wait_for(const FileDescriptor &socket, short events, steady_clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    pollfd waiting{socket.get(), events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30)));
    if (ready > 0) return true;
    if (ready < 0 && errno == EINTR) continue;
    return false;
  }
}

// The descriptors of a received message; whoever takes the list closes them.
std::vector<FileDescriptor> take_descriptors(msghdr *message) {
  std::vector<FileDescriptor> descriptors;
  for (cmsghdr *part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(number);
    }
  }
  return descriptors;
}

// A field of an answer, if it is there and of that type.
std::optional<uint64_t> number_field(const json &body, const char *field) {
  const auto found = body.find(field);
  if (found == body.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<uint64_t>();
}

std::optional<std::string> text_field(const json &body, const char *field) {
  const auto found = body.find(field);
  if (found == body.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

// Compares the versions of the records that both sides read.
Status check_abi(const json &body) {
  const auto abi = body.find("abi");
  if (abi == body.end() || !abi->is_object()) return Error{"hello: the answer has no \"abi\" versions"};
  const std::pair<const char *, uint64_t> versions[] = {{"snapshot", SLUICE_SNAPSHOT_VERSION},
                                                        {"connections", SLUICE_CONNECTION_VERSION},
                                                        {"counters", SLUICE_COUNTER_VERSION}};
  for (const auto &[name, version] : versions) {
    const auto theirs = number_field(*abi, name);
    if (theirs == version) continue;
    return Error{std::string("hello: the dataplane has version ") +
                 (theirs ? std::to_string(*theirs) : "(none)") + " of the " + name +
                 " records, this sluiced has " + std::to_string(version) +
                 "; use sluiced and sluice-dataplane of one release"};
  }
  return Done{};
}

Result<SnapshotBytes> copy_file(const FileDescriptor &file) {
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return Error{system_error("snapshot: fstat")};
  const auto size = static_cast<uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size == 0 || size > kMaxSnapshotBytes) {
    return Error{"snapshot: the dataplane passed no memory of a snapshot's size (" + std::to_string(size) +
                 " bytes)"};
  }
  SnapshotBytes bytes(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t count = ::pread(file.get(), bytes.data() + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      return Error{"snapshot: the dataplane's memory ended after " + std::to_string(done) + " bytes"};
    done += static_cast<uint64_t>(count);
  }
  return bytes;
}

json without_envelope(json body) {
  for (const char *field : {"protocol", "id", "ok"}) body.erase(field);
  return body;
}

}  // namespace

std::string storage_problem(const json &answer) {
  if (answer.value("stored", json()) != false || number_field(answer, "revision").value_or(0) == 0) return "";
  return text_field(answer, "warning").value_or("it does not say why");
}

Result<DataplaneClient> DataplaneClient::connect(const std::filesystem::path &socket_path,
                                                 milliseconds timeout) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = socket_path.string();
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error{"control socket \"" + path + "\": a path of 1 to " +
                 std::to_string(sizeof(address.sun_path) - 1) + " bytes is needed"};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error{system_error("socket")};
  // Bounds connect() too, which waits while the server's queue is full. The buffer holds the largest message.
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timeval limit{seconds.count(), std::chrono::microseconds(timeout - seconds).count()};
  const int buffer_size = 2 * kControlMessageMaxSize;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof(buffer_size));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0) {
    return Error{system_error("control socket \"" + path + "\": is sluice-dataplane running? connect")};
  }
  DataplaneClient client(std::move(socket), timeout);
  client.path_ = socket_path;
  if (Status status = client.say_hello(); !status.ok()) return status.error();
  return client;
}

Error DataplaneClient::lost(const std::string &why) {
  socket_.reset();
  return Error{"control socket \"" + path_.string() + "\": connection lost: " + why};
}

Status DataplaneClient::say_hello() {
  const auto answer = request("hello", nullptr);
  if (!answer.ok()) return answer.error();
  const json &body = answer.value().body;
  if (Status status = check_abi(body); !status.ok()) return status;
  hello_.engine = text_field(body, "engine").value_or("");
  hello_.version = text_field(body, "version").value_or("");
  hello_.revision = number_field(body, "revision").value_or(0);
  return Done{};
}

Result<Publication> DataplaneClient::publish(std::span<const std::byte> snapshot) {
  const auto memfd = make_sealed_memfd(snapshot);
  if (!memfd.ok()) return memfd.error();
  const auto answer = request("publish", &memfd.value());
  if (!answer.ok()) return answer.error();
  const json &body = answer.value().body;
  const auto revision = number_field(body, "revision");
  if (!revision) return Error{"publish: the answer names no revision"};
  return Publication{*revision, storage_problem(body)};
}

Result<std::optional<SnapshotBytes>> DataplaneClient::snapshot() {
  const auto answer = request("snapshot", nullptr);
  if (!answer.ok()) return answer.error();
  if (number_field(answer.value().body, "revision").value_or(0) == 0) return std::optional<SnapshotBytes>();
  if (!answer.value().descriptor.valid()) return Error{"snapshot: no descriptor came with the answer"};
  auto bytes = copy_file(answer.value().descriptor);
  if (!bytes.ok()) return bytes.error();
  return std::optional(std::move(bytes).value());
}

Result<json> DataplaneClient::status() {
  auto answer = request("status", nullptr);
  if (!answer.ok()) return answer.error();
  return without_envelope(std::move(answer.value().body));
}

Result<json> DataplaneClient::explain(const json &fields) {
  auto answer = request("explain", nullptr, fields);
  if (!answer.ok()) return answer.error();
  return without_envelope(std::move(answer.value().body));
}

Result<CounterView> DataplaneClient::counters() {
  const auto answer = request("counters", nullptr);
  if (!answer.ok()) return answer.error();
  if (!answer.value().descriptor.valid()) return Error{"counters: no descriptor came with the answer"};
  return CounterView::open(answer.value().descriptor);
}

Result<ConnectionView> DataplaneClient::connections() {
  const auto answer = request("connections", nullptr);
  if (!answer.ok()) return answer.error();
  if (!answer.value().descriptor.valid()) return Error{"connections: no descriptor came with the answer"};
  return ConnectionView::open(answer.value().descriptor);
}

Result<DataplaneClient::Answer> DataplaneClient::request(const std::string &name,
                                                         const FileDescriptor *passed, const json &fields) {
  if (!connected()) {
    return Error{"control socket \"" + path_.string() + "\": not connected; connect anew"};
  }
  const auto deadline = steady_clock::now() + timeout_;
  const uint64_t id = next_id_++;
  json message = fields;
  message.update({{"protocol", int{kControlProtocolVersion}}, {"id", id}, {"request", name}});
  if (Status status = send_message(message.dump(), passed, deadline); !status.ok()) return status.error();
  auto answer = receive_answer(id, deadline);
  if (!answer.ok()) return answer;
  const json &body = answer.value().body;
  const auto ok = body.find("ok");
  if (ok == body.end() || !ok->is_boolean()) return lost("the answer to " + name + " has no \"ok\"");
  if (ok->get<bool>()) return answer;
  return Error{"dataplane refused " + name + ": " + text_field(body, "error").value_or("(no reason given)")};
}

Status DataplaneClient::send_message(const std::string &text, const FileDescriptor *passed,
                                     steady_clock::time_point deadline) {
  iovec part{const_cast<char *>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (passed != nullptr) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = passed->get();
    std::memcpy(CMSG_DATA(rights), &number, sizeof(number));
  }
  while (true) {
    if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return Done{};
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return lost(system_error("send"));
    if (!wait_for(socket_, POLLOUT, deadline)) return lost("the dataplane takes no messages");
  }
}

Result<DataplaneClient::Answer> DataplaneClient::receive_answer(uint64_t id,
                                                                steady_clock::time_point deadline) {
  std::vector<char> buffer(kControlMessageMaxSize);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxReceivedDescriptors * sizeof(int))> control{};
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  ssize_t size = -1;
  while (size < 0) {
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    size = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size >= 0 || errno == EINTR) continue;
    if (errno != EAGAIN) return lost(system_error("receive"));
    if (!wait_for(socket_, POLLIN, deadline)) {
      return lost("no answer within " + std::to_string(timeout_.count()) + " ms");
    }
  }
  std::vector<FileDescriptor> descriptors = take_descriptors(&message);
  if (size == 0) return lost("closed by the dataplane");
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || descriptors.size() > 1) {
    return lost("an answer larger than the protocol allows");
  }
  Answer answer;
  answer.body = json::parse(buffer.data(), buffer.data() + size, nullptr, false);
  if (!answer.body.is_object()) return lost("an answer that is no JSON object");
  const auto protocol = number_field(answer.body, "protocol");
  if (protocol != uint64_t{kControlProtocolVersion}) {
    return lost("the dataplane speaks protocol " + (protocol ? std::to_string(*protocol) : "(none)") +
                ", this sluiced speaks " + std::to_string(int{kControlProtocolVersion}) +
                "; use sluiced and sluice-dataplane of one release");
  }
  // A refusal before the request was read has no id to name.
  const auto answered = number_field(answer.body, "id");
  if (answered != id && answered != 0u) return lost("an answer to another request");
  if (!descriptors.empty()) answer.descriptor = std::move(descriptors.front());
  return answer;
}

}  // namespace sluice
