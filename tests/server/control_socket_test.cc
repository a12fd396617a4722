#include "dataplane/server/control_socket.h"

#include <array>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

/// What a client got: an answer, or the end of the connection.
struct Reply {
  bool open = false;
  Json json;
  UniqueFd descriptor;
};

/// A client as sluiced is one.
class TestClient {
 public:
  explicit TestClient(const std::filesystem::path &path, int type = SOCK_SEQPACKET)
      : fd_(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    connected_ = ::connect(fd_.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) == 0;
    const timeval longest = {10, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
    const int size = 1 << 20;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
  }

  bool connected() const { return connected_; }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(-1); }

  bool send(const std::string &text, const std::vector<int> &descriptors = {}) const {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control = {};
    iovec part = {const_cast<char *>(text.data()), text.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
      cmsghdr *header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
    }
    return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }

  Reply receive() const {
    std::vector<char> buffer(kControlMessageMaxSize);
    alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control = {};
    iovec part = {buffer.data(), buffer.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
    Reply reply;
    if (size <= 0) return reply;
    reply.open = true;
    reply.json = Json::parse(buffer.data(), buffer.data() + size, nullptr, false);
    if (const cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
      reply.descriptor.reset(descriptor);
    }
    return reply;
  }

  Reply ask(const std::string &text, const std::vector<int> &descriptors = {}) const {
    EXPECT_TRUE(send(text, descriptors)) << std::strerror(errno);
    return receive();
  }

 private:
  UniqueFd fd_;
  bool connected_ = false;
};

std::string request(const std::string &name, int id = 1) {
  return Json({{"protocol", 1}, {"id", id}, {"request", name}}).dump();
}

/// A socket served from a thread of its own. Requests: "echo" answers its name, "fail" an error,
/// "descriptor" whether one came and passes one, "large:N" N characters, "bytes" text that is no UTF-8.
class ServedSocket {
 public:
  explicit ServedSocket(const ControlSocketOptions &options) : stop_(::eventfd(0, EFD_CLOEXEC)) {
    auto socket = ControlSocket::listen(options);
    EXPECT_TRUE(socket.ok()) << socket.error().message;
    socket_ = std::move(socket).value();
    thread_ = std::thread([this] { serve(); });
  }
  ~ServedSocket() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  static Result<ControlAnswer> answer(const ControlRequest &request) {
    if (request.name == "fail") return Error{"it failed"};
    ControlAnswer answer;
    answer.fields["name"] = request.name;
    if (request.name == "descriptor") {
      answer.fields["passed"] = request.descriptor.valid();
      answer.descriptor.reset(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    }
    if (request.name.starts_with("large:"))
      answer.fields["text"] = std::string(std::stoul(request.name.substr(6)), 'x');
    if (request.name == "bytes") answer.fields["text"] = "\xff\xfe";
    return answer;
  }

  void serve() {
    for (;;) {
      std::array<pollfd, 2> wanted = {{{socket_->fd(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
      ::poll(wanted.data(), wanted.size(), -1);
      if (wanted[1].revents != 0) return;
      socket_->process([](const ControlRequest &request) { return answer(request); });
    }
  }

  UniqueFd stop_;
  std::unique_ptr<ControlSocket> socket_;
  std::thread thread_;
};

class ControlSocketTest : public testing::Test {
 protected:
  ControlSocketOptions options() const {
    ControlSocketOptions options;
    options.path = directory_.path() / "socket";
    return options;
  }
  std::filesystem::path path() const { return options().path; }
  TemporaryDirectory directory_;
};

TEST_F(ControlSocketTest, answers_with_the_id_of_the_request) {
  const ServedSocket served(options());
  const TestClient client(path());
  const Reply reply = client.ask(request("echo", 17));
  EXPECT_EQ(reply.json, Json({{"protocol", 1}, {"id", 17}, {"ok", true}, {"name", "echo"}}));
}

TEST_F(ControlSocketTest, answers_a_failure_in_words) {
  const ServedSocket served(options());
  const TestClient client(path());
  EXPECT_EQ(client.ask(request("fail", 3)).json,
            Json({{"protocol", 1}, {"id", 3}, {"ok", false}, {"error", "it failed"}}));
}

TEST_F(ControlSocketTest, passes_descriptors_both_ways) {
  const ServedSocket served(options());
  const TestClient client(path());
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const Reply with = client.ask(request("descriptor"), {null.get()});
  EXPECT_TRUE(with.json["passed"]);
  char zero = 1;
  EXPECT_EQ(::read(with.descriptor.get(), &zero, 1), 1);
  EXPECT_EQ(zero, 0);
  EXPECT_FALSE(client.ask(request("descriptor")).json["passed"]);
}

TEST_F(ControlSocketTest, refuses_more_than_one_descriptor) {
  const ServedSocket served(options());
  const TestClient client(path());
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const size_t count : {2, 8, 9, 16}) {
    const Reply reply = client.ask(request("descriptor", 5), std::vector<int>(count, null.get()));
    EXPECT_THAT(reply.json.value("error", ""), HasSubstr("one file descriptor")) << count;
    EXPECT_EQ(reply.json["id"], 5);
  }
  EXPECT_TRUE(client.ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, closes_the_descriptors_that_clients_pass) {
  const ServedSocket served(options());
  const TestClient client(path());
  std::array<int, 2> pipe = {};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe[0]);
  UniqueFd writer(pipe[1]);
  client.ask(request("echo"), {writer.get()});
  client.ask("garbage", {writer.get()});
  client.ask(request("echo"), {writer.get(), writer.get()});
  client.ask(request("echo"));
  writer.reset(-1);
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "somebody still holds the pipe's other end";
}

TEST_F(ControlSocketTest, refuses_another_protocol_version_naming_both) {
  const ServedSocket served(options());
  const TestClient client(path());
  const Reply reply = client.ask(R"({"protocol":2,"id":8,"request":"echo"})");
  EXPECT_FALSE(reply.json["ok"]);
  EXPECT_EQ(reply.json["id"], 8);
  EXPECT_THAT(reply.json["error"], HasSubstr("protocol: 2, this dataplane speaks 1"));
}

TEST_F(ControlSocketTest, answers_garbage_with_an_error_and_goes_on) {
  const ServedSocket served(options());
  const TestClient client(path());
  const std::pair<std::string, std::string> messages[] = {
      {"garbage", "not JSON"},
      {std::string("\0\xff\x80{", 4), "not JSON"},
      {"[1,2]", "no"},
      {"{}", "protocol: is missing"},
      {R"({"protocol":"1","id":1,"request":"echo"})", "protocol: \"1\""},
      {R"({"protocol":1,"request":"echo"})", "id: is missing"},
      {R"({"protocol":1,"id":-1,"request":"echo"})", "id: is missing or no unsigned number"},
      {R"({"protocol":1,"id":1.5,"request":"echo"})", "id: is missing or no unsigned number"},
      {R"({"protocol":1,"id":1})", "request: is missing"},
      {R"({"protocol":1,"id":1,"request":{"a":[1]}})", "request: an object is no string"},
      {R"({"protocol":[1],"id":1,"request":"echo"})", "protocol: an array, this dataplane speaks 1"},
      {R"({"protocol":")" + std::string(1000, 'x') + R"(","id":1})",
       "protocol: \"" + std::string(60, 'x') + "\"..., this"},
      {R"({"protocol":1,"id":1e999,"request":"echo"})", "not JSON"},
      {std::string(100'000, '['), "not JSON"}};
  for (const auto &[message, error] : messages) {
    const Reply reply = client.ask(message);
    EXPECT_FALSE(reply.json.value("ok", true)) << message.substr(0, 60);
    EXPECT_THAT(reply.json.value("error", ""), HasSubstr(error)) << message.substr(0, 60);
  }
  EXPECT_TRUE(client.ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, refuses_a_message_nested_too_deep_and_goes_on) {
  const ServedSocket served(options());
  const TestClient client(path());
  const auto nested = [](const std::string &field, size_t levels) {
    return R"({"id":6,")" + field + R"(":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  for (const std::string field : {"protocol", "request", "other"}) {
    for (const size_t levels : {size_t{16}, size_t{1000}, size_t{131'000}}) {
      const Reply reply = client.ask(nested(field, levels));
      EXPECT_THAT(reply.json.value("error", ""), HasSubstr("nested deeper than 16 levels")) << field;
      EXPECT_EQ(reply.json.value("id", 0), 6);
    }
  }
  std::string objects = R"({"id":6)";
  for (int level = 0; level < 20'000; level++) objects += R"(,"p":{"id":1)";
  objects += std::string(20'001, '}');
  EXPECT_THAT(client.ask(objects).json.value("error", ""), HasSubstr("nested deeper than 16 levels"));
  EXPECT_THAT(client.ask(nested("protocol", 15)).json.value("error", ""), HasSubstr("protocol: an array"));
  EXPECT_TRUE(client.ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, takes_the_largest_message_and_refuses_a_larger_one) {
  const ServedSocket served(options());
  const TestClient client(path());
  std::string message = request("echo");
  message.resize(kControlMessageMaxSize, ' ');
  EXPECT_TRUE(client.ask(message).json["ok"]);
  message.push_back(' ');
  EXPECT_THAT(client.ask(message).json["error"], HasSubstr("longer than 262144 bytes"));
  EXPECT_TRUE(client.ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, sends_the_largest_answer_and_refuses_a_larger_one) {
  const ServedSocket served(options());
  const TestClient client(path());
  const Reply reply = client.ask(request("large:262000", 4));
  EXPECT_EQ(reply.json["text"].get<std::string>().size(), 262000);
  EXPECT_THAT(client.ask(request("large:262144", 4)).json["error"], HasSubstr("longer than 262144 bytes"));
}

TEST_F(ControlSocketTest, replaces_text_that_is_no_utf8) {
  const ServedSocket served(options());
  const TestClient client(path());
  EXPECT_EQ(client.ask(request("bytes")).json["text"], "\uFFFD\uFFFD");
}

TEST_F(ControlSocketTest, serves_others_while_a_client_does_not_read_its_answers) {
  const ServedSocket served(options());
  const TestClient deaf(path());
  ASSERT_EQ(::fcntl(deaf.fd(), F_SETFL, O_NONBLOCK), 0);
  int sent = 0;
  while (sent < 100'000 && deaf.send(request("large:100000", sent))) sent++;
  ASSERT_LT(sent, 100'000) << "its requests must come to a halt";
  const TestClient other(path());
  EXPECT_TRUE(other.ask(request("echo")).json["ok"]);
  // What it asked before is answered, in order, once it reads.
  ASSERT_EQ(::fcntl(deaf.fd(), F_SETFL, 0), 0);
  for (int i = 0; i < sent; i++) ASSERT_EQ(deaf.receive().json["id"], i);
}

TEST_F(ControlSocketTest, survives_clients_that_leave_at_any_moment) {
  const ServedSocket served(options());
  for (int round = 0; round < 100; round++) {
    TestClient client(path());
    if (round % 3 > 0) client.send(request("large:100000"));
    if (round % 3 > 1) client.send(std::string(1000, 'x'));
    client.close();
  }
  EXPECT_TRUE(TestClient(path()).ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, serves_many_clients_and_turns_away_too_many) {
  ControlSocketOptions few = options();
  few.max_clients = 20;
  const ServedSocket served(few);
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 20; i++) {
    clients.push_back(std::make_unique<TestClient>(path()));
    EXPECT_EQ(clients.back()->ask(request("echo", i)).json["id"], i);
  }
  const TestClient one_more(path());
  EXPECT_THAT(one_more.receive().json.value("error", ""), HasSubstr("20 clients"));
  EXPECT_FALSE(one_more.receive().open);
  for (int i = 0; i < 20; i++) EXPECT_TRUE(clients[i]->send(request("echo", 100 + i)));
  for (int i = 0; i < 20; i++) EXPECT_EQ(clients[i]->receive().json["id"], 100 + i);
  clients.pop_back();
  // The place that is free again is given away once the server has seen that client go.
  for (int attempt = 0; attempt < 1000; attempt++)
    if (const TestClient next(path()); next.send(request("echo")) && next.receive().json.value("ok", false))
      return;
  FAIL() << "no client is served after one has left";
}

TEST_F(ControlSocketTest, replaces_a_socket_that_nobody_listens_on) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(path()));
  const ServedSocket served(options());
  EXPECT_TRUE(TestClient(path()).ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, does_not_take_a_socket_from_one_who_listens) {
  const ServedSocket served(options());
  const auto second = ControlSocket::listen(options());
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("another process listens"));
  EXPECT_TRUE(TestClient(path()).ask(request("echo")).json["ok"]);
}

TEST_F(ControlSocketTest, does_not_replace_what_is_no_socket) {
  ::close(::open(path().c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_THAT(ControlSocket::listen(options()).error().message, HasSubstr("is no socket"));
  EXPECT_TRUE(std::filesystem::is_regular_file(path()));
}

TEST_F(ControlSocketTest, names_a_path_that_is_too_long_or_not_there) {
  ControlSocketOptions wanted = options();
  wanted.path = directory_.path() / std::string(120, 'x');
  EXPECT_THAT(ControlSocket::listen(wanted).error().message, HasSubstr("at most 107 characters"));
  wanted.path = directory_.path() / "missing" / "socket";
  EXPECT_THAT(ControlSocket::listen(wanted).error().message, HasSubstr("cannot bind"));
}

TEST_F(ControlSocketTest, has_the_mode_and_group_it_is_given_and_goes_with_the_server) {
  ControlSocketOptions wanted = options();
  wanted.mode = 0620;
  wanted.group = ::getgid();
  {
    const ServedSocket served(wanted);
    struct stat info = {};
    ASSERT_EQ(::stat(path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0620);
    EXPECT_EQ(info.st_gid, ::getgid());
  }
  EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace sluice
