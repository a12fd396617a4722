// A control socket that answers as a test tells it to, so that a test can misbehave as no dataplane does.
#ifndef SLUICE_TESTS_CONTROLPLANE_PUBLISH_SCRIPTED_SERVER_H
#define SLUICE_TESTS_CONTROLPLANE_PUBLISH_SCRIPTED_SERVER_H

#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/un.h>

#include "controlplane/publish/file_descriptor.h"
#include "dataplane/abi/connection.h"
#include "dataplane/abi/control_protocol.h"
#include "dataplane/abi/counters.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

/// What the server sends back: text and descriptors as they are. An empty text closes the connection.
struct ScriptedAnswer {
  std::string text;
  std::vector<int> descriptors;  // stay the test's
};

inline nlohmann::json good_hello() {
  return {{"protocol", 1},
          {"id", 1},
          {"ok", true},
          {"engine", "dpdk"},
          {"version", "0.1.0"},
          {"revision", 7},
          {"abi",
           {{"snapshot", SLUICE_SNAPSHOT_VERSION},
            {"connections", SLUICE_CONNECTION_VERSION},
            {"counters", SLUICE_COUNTER_VERSION}}}};
}

/// Serves one client on a thread: `hello` first, then whatever `script` says to each request (with the
/// descriptor that came with it, if any).
class ScriptedServer {
 public:
  using Script = std::function<ScriptedAnswer(const nlohmann::json &request, const FileDescriptor &passed)>;

  ScriptedServer(const std::string &name, ScriptedAnswer hello, Script script = {})
      : path_(std::filesystem::temp_directory_path() / ("sluice-cp-" + name + std::to_string(::getpid()))) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    ::unlink(path_.c_str());
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (::bind(listener_.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0 ||
        ::listen(listener_.get(), 1) != 0) {
      std::abort();
    }
    thread_ =
        std::thread([this, hello = std::move(hello), script = std::move(script)] { serve(hello, script); });
  }

  ~ScriptedServer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept()
      if (client_ >= 0) ::shutdown(client_, SHUT_RDWR);
    }
    thread_.join();
    std::filesystem::remove(path_);
  }

  const std::filesystem::path &path() const { return path_; }

 private:
  void serve(const ScriptedAnswer &hello, const Script &script) {
    const FileDescriptor client(::accept(listener_.get(), nullptr, nullptr));
    if (!client.valid()) return;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      client_ = client.get();
    }
    serve_client(client, hello, script);
    const std::lock_guard lock(mutex_);
    client_ = -1;
  }

  static void serve_client(const FileDescriptor &client, const ScriptedAnswer &hello, const Script &script) {
    const int buffer_size = 2 * kControlMessageMaxSize;
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof(buffer_size));
    bool said_hello = false;
    while (true) {
      std::vector<char> buffer(kControlMessageMaxSize);
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
      iovec part{buffer.data(), buffer.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      const ssize_t size = ::recvmsg(client.get(), &message, MSG_CMSG_CLOEXEC);
      if (size <= 0) return;
      FileDescriptor passed;
      if (const cmsghdr *rights = CMSG_FIRSTHDR(&message)) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(rights), sizeof(number));
        passed.reset(number);
      }
      const auto request = nlohmann::json::parse(buffer.data(), buffer.data() + size);
      const ScriptedAnswer answer = said_hello ? script(request, passed) : hello;
      said_hello = true;
      if (answer.text.empty()) return;
      send(client, answer);
    }
  }

  static void send(const FileDescriptor &client, const ScriptedAnswer &answer) {
    std::string text = answer.text;
    iovec part{text.data(), text.size()};
    std::vector<char> control(CMSG_SPACE(sizeof(int) * answer.descriptors.size()));
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!answer.descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr *rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * answer.descriptors.size());
      std::memcpy(CMSG_DATA(rights), answer.descriptors.data(), sizeof(int) * answer.descriptors.size());
    }
    ::sendmsg(client.get(), &message, MSG_NOSIGNAL);
  }

  std::filesystem::path path_;
  FileDescriptor listener_;
  std::mutex mutex_;  // guards what follows
  bool stopping_ = false;
  int client_ = -1;  // while it is served
  std::thread thread_;
};

}  // namespace sluice

#endif
