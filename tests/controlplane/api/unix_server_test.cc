// The transport, over a real Unix socket and byte by byte.
#include "controlplane/api/unix_server.h"

#include <array>
#include <cstring>
#include <fstream>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "controlplane/api/render.h"
#include "controlplane/api/router.h"

namespace sluice::api {
namespace {

using namespace std::chrono_literals;

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-api-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path &path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A raw client: sends bytes, and reads until an answer is whole or the server closes.
class Client {
 public:
  explicit Client(const std::filesystem::path &path)
      : socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    connected_ = connect(socket_, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(socket_); }
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;

  bool connected() const { return connected_; }

  void send_bytes(const std::string &bytes) const {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t put = send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) return;  // the server has had enough
      sent += static_cast<size_t>(put);
    }
  }

  // Waits, without reading, until the server has closed the connection; false when it does not.
  bool wait_for_end() const {
    pollfd ended{socket_, POLLRDHUP, 0};
    return poll(&ended, 1, 30'000) == 1;
  }

  // Everything up to the end of the connection.
  std::string read_all() const {
    std::string text;
    while (read_some(&text)) {
    }
    return text;
  }

  // One answer that has a Content-Length.
  std::string read_answer() {
    while (true) {
      const size_t header_end = pending_.find("\r\n\r\n");
      if (header_end != std::string::npos) {
        const size_t length_at = pending_.find("Content-Length: ");
        const size_t length =
            length_at == std::string::npos ? 0 : std::stoul(pending_.substr(length_at + 16));
        const size_t total = header_end + 4 + length;
        if (pending_.size() >= total) {
          std::string answer = pending_.substr(0, total);
          pending_.erase(0, total);
          return answer;
        }
      }
      if (!read_some(&pending_)) return pending_;
    }
  }

 private:
  bool read_some(std::string *text) const {
    pollfd waiting{socket_, POLLIN, 0};
    if (poll(&waiting, 1, 30'000) <= 0) {
      ADD_FAILURE() << "the server neither answered nor closed";
      return false;
    }
    std::array<char, 65536> part{};
    const ssize_t got = recv(socket_, part.data(), part.size(), 0);
    if (got <= 0) return false;
    text->append(part.data(), static_cast<size_t>(got));
    return true;
  }

  int socket_;
  bool connected_ = false;
  std::string pending_;
};

class ApiServer : public testing::Test {
 protected:
  void TearDown() override { stop(); }

  void start(UnixServerOptions options = {}) {
    options.socket_path = socket_path();
    auto server = UnixServer::listen(io_, options, gate_, [this](const Request &request, const Reply &reply) {
      if (request.target == "/v1/large") return reply(json_response(200, std::string(8'000'000, 'x')));
      if (request.target == "/later") late_.push_back(reply);
      requests_++;
      if (request.target == "/later") return;
      reply(json_response(
          200, {{"method", request.method}, {"target", request.target}, {"size", request.body.size()}}));
    });
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = std::move(server).value();
    thread_ = std::thread([this] { io_.run(); });
  }

  void stop() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
  }

  std::filesystem::path socket_path() const { return directory_.path() / "api.sock"; }

  void wait_for_requests(int count) const {
    for (int i = 0; i < 3000 && requests_ < count; i++) std::this_thread::sleep_for(10ms);
    ASSERT_GE(requests_, count);
  }
  // From this thread, as the control loop does.
  void answer_the_late() {
    for (const Reply &reply : late_) reply(json_response(200, nullptr));
  }

  // One request on a connection of its own.
  std::string exchange(const std::string &request) const {
    const Client client(socket_path());
    client.send_bytes(request);
    return client.read_all();
  }

  ScratchDirectory directory_;
  boost::asio::io_context io_{1};
  // With all connections busy there is nothing to wait for.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  Gate gate_;
  std::unique_ptr<UnixServer> server_;
  std::thread thread_;
  std::atomic<int> requests_{0};
  std::vector<Reply> late_;  // read after `requests_` has counted them
};

bool has_status(const std::string &answer, int status) {
  return answer.rfind("HTTP/1.1 " + std::to_string(status) + " ", 0) == 0;
}

constexpr const char *kGet = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";

TEST_F(ApiServer, answers_and_keeps_the_connection) {
  start();
  Client client(socket_path());
  for (int i = 0; i < 3; i++) {
    client.send_bytes(kGet);
    const std::string answer = client.read_answer();
    EXPECT_TRUE(has_status(answer, 200)) << answer;
    EXPECT_NE(answer.find("\"target\":\"/v1/status\""), std::string::npos) << answer;
  }
}

TEST_F(ApiServer, answers_pipelined_requests_in_order) {
  start();
  Client client(socket_path());
  client.send_bytes("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(client.read_answer().find("\"/a\""), std::string::npos);
  EXPECT_NE(client.read_answer().find("\"/b\""), std::string::npos);
}

TEST_F(ApiServer, closes_when_asked_to) {
  start();
  const std::string answer = exchange("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(has_status(answer, 200)) << answer;
}

TEST_F(ApiServer, head_has_no_body) {
  start();
  const std::string answer = exchange("HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(has_status(answer, 200)) << answer;
  EXPECT_EQ(answer.substr(answer.size() - 4), "\r\n\r\n");
}

TEST_F(ApiServer, socket_is_for_owner_and_group) {
  start();
  struct stat found {};
  ASSERT_EQ(stat(socket_path().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0660u);
}

TEST_F(ApiServer, malformed_requests_are_answered_with_400_and_closed) {
  start();
  const std::vector<std::string> malformed = {
      "hello\r\n\r\n",
      "GET\r\n\r\n",
      "GET /a HTTP/9.9\r\n\r\n",
      "GET /a HTTP/1.1\r\nno colon\r\n\r\n",
      "GET /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "GET /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),  // TLS
      std::string("GET /\0 HTTP/1.1\r\n\r\n", 20),
  };
  for (const std::string &request : malformed) {
    const std::string answer = exchange(request);
    EXPECT_TRUE(has_status(answer, 400)) << request << "\n" << answer;
    EXPECT_NE(answer.find("application/problem+json"), std::string::npos);
  }
  EXPECT_EQ(requests_, 0);
  EXPECT_TRUE(has_status(exchange("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
}

TEST_F(ApiServer, large_headers_are_refused) {
  start();
  const std::string answer = exchange("GET /a HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
  EXPECT_TRUE(has_status(answer, 431)) << answer;
}

TEST_F(ApiServer, large_bodies_are_refused_before_they_are_read) {
  start();
  const std::string answer = exchange("POST /v1/reload HTTP/1.1\r\nContent-Length: 5000\r\n\r\n");
  EXPECT_TRUE(has_status(answer, 413)) << answer;
  const std::string huge = exchange("POST /v1/check-config HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
  EXPECT_TRUE(has_status(huge, 413)) << huge;
}

TEST_F(ApiServer, large_chunked_bodies_are_refused) {
  start();
  std::string request = "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 10; i++) request += "400\r\n" + std::string(1024, 'x') + "\r\n";
  EXPECT_TRUE(has_status(exchange(request), 413));
}

TEST_F(ApiServer, a_configuration_may_be_large) {
  start();
  const size_t size = 1'000'000;
  const std::string answer = exchange(
      "POST /v1/check-config HTTP/1.1\r\nConnection: close\r\nContent-Length: " + std::to_string(size) +
      "\r\n\r\n" + std::string(size, 'x'));
  EXPECT_TRUE(has_status(answer, 200)) << answer;
  EXPECT_NE(answer.find("\"size\":1000000"), std::string::npos) << answer;
}

TEST_F(ApiServer, an_empty_body_with_a_length_is_fine) {
  start();
  EXPECT_TRUE(has_status(
      exchange("POST /v1/reload HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), 200));
}

TEST_F(ApiServer, expect_continue_is_answered_first) {
  start();
  Client client(socket_path());
  client.send_bytes("POST /v1/check-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_TRUE(has_status(client.read_answer(), 100));
  client.send_bytes("abc");
  EXPECT_NE(client.read_answer().find("\"size\":3"), std::string::npos);
}

TEST_F(ApiServer, a_slow_client_is_cut_off_and_others_are_served_meanwhile) {
  start({.times = {.header = 300ms}});
  const Client slow(socket_path());
  slow.send_bytes("GET /a HT");
  EXPECT_TRUE(has_status(exchange("GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
  EXPECT_EQ(slow.read_all(), "");
  const Client silent(socket_path());
  EXPECT_EQ(silent.read_all(), "");
}

TEST_F(ApiServer, a_client_that_takes_no_answer_is_cut_off) {
  start({.times = {.response = 300ms}});
  const Client deaf(socket_path());
  deaf.send_bytes("GET /v1/large HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(has_status(exchange("GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
  // What the socket held is left; the rest of the eight megabytes never comes.
  ASSERT_TRUE(deaf.wait_for_end());
  EXPECT_LT(deaf.read_all().size(), 8'000'000u);
}

TEST_F(ApiServer, a_client_that_leaves_in_the_middle_harms_nobody) {
  start();
  for (const char *part :
       {"", "GET", "GET /a HTTP/1.1\r\nHost", "POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"}) {
    const Client client(socket_path());
    client.send_bytes(part);
  }
  EXPECT_TRUE(has_status(exchange("GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
}

TEST_F(ApiServer, connection_above_the_limit_takes_the_place_of_a_silent_or_an_idle_one) {
  start({.max_connections = 2});
  Client idle(socket_path());
  idle.send_bytes(kGet);
  EXPECT_TRUE(has_status(idle.read_answer(), 200));
  const Client silent(socket_path());
  EXPECT_TRUE(has_status(exchange("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
  EXPECT_TRUE(silent.wait_for_end());
  idle.send_bytes(kGet);  // who has shown who it is goes later
  EXPECT_TRUE(has_status(idle.read_answer(), 200));
  Client second(socket_path());
  second.send_bytes(kGet);
  EXPECT_TRUE(has_status(second.read_answer(), 200));
  EXPECT_TRUE(has_status(exchange("GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
  EXPECT_TRUE(idle.wait_for_end());
}

TEST_F(ApiServer, connections_above_the_limit_wait_while_all_are_served) {
  start({.max_connections = 2});
  Client first(socket_path());
  Client second(socket_path());
  for (const Client *client : {&first, &second}) client->send_bytes("GET /later HTTP/1.1\r\n\r\n");
  wait_for_requests(2);
  Client third(socket_path());
  third.send_bytes(kGet);
  answer_the_late();
  EXPECT_TRUE(has_status(first.read_answer(), 200));
  EXPECT_TRUE(has_status(second.read_answer(), 200));
  EXPECT_TRUE(has_status(third.read_answer(), 200));
}

TEST_F(ApiServer, takes_over_a_socket_file_that_nobody_listens_on) {
  start();
  const std::filesystem::path kept = directory_.path() / "kept.sock";
  std::filesystem::create_hard_link(socket_path(), kept);
  stop();
  EXPECT_FALSE(std::filesystem::exists(socket_path()));
  std::filesystem::rename(kept, socket_path());
  io_.restart();
  start();
  EXPECT_TRUE(has_status(exchange("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"), 200));
}

TEST_F(ApiServer, does_not_take_a_path_from_another_server_or_file) {
  start();
  boost::asio::io_context other;
  const auto handler = [](const Request &, const Reply &reply) { reply({}); };
  auto second = UnixServer::listen(other, {.socket_path = socket_path()}, gate_, handler);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("another sluiced listens there"), std::string::npos);
  const std::filesystem::path file = directory_.path() / "file";
  std::ofstream(file) << "precious";
  EXPECT_FALSE(UnixServer::listen(other, {.socket_path = file}, gate_, handler).ok());
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
  EXPECT_FALSE(UnixServer::listen(other, {.socket_path = std::string(200, 'x')}, gate_, handler).ok());
  EXPECT_FALSE(UnixServer::listen(other, {.socket_path = "/nonexistent/api.sock"}, gate_, handler).ok());
}

}  // namespace
}  // namespace sluice::api
