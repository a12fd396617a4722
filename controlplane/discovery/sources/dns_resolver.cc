#include "controlplane/discovery/sources/dns_resolver.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include <ares.h>
#include <arpa/inet.h>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <spdlog/fmt/fmt.h>
#include <sys/epoll.h>

#include "controlplane/model/address_text.h"

namespace sluice {

namespace asio = boost::asio;

namespace {

using Clock = Signal::Clock;

constexpr int kTries = 2;
constexpr int kClassIn = 1;
constexpr int kEdnsBytes = 1232;  // DNS flag day 2020: what no path breaks into fragments

// Of one question, until it is answered.
struct Question {
  DnsResolver::Answered answered;
  size_t *open;  // questions
};

std::string server_text(const Address &address, uint16_t l4_port) {
  const std::string text = format_address(address);
  if (l4_port == 53) return text;
  return address_is_ipv4(&address) ? fmt::format("{}:{}", text, l4_port)
                                   : fmt::format("[{}]:{}", text, l4_port);
}

}  // namespace

// c-ares's sockets are in an epoll of their own, which Asio's waits for: so c-ares opens and closes them as
// it likes.
struct DnsResolver::Impl {
  Impl(asio::io_context &io, int epoll_fd, std::chrono::milliseconds time)
      : sockets(io, epoll_fd), ready(io), deadline(Clock::now() + time) {}
  ~Impl() {
    if (channel != nullptr) ares_destroy(channel);  // answers every open question
  }
  Impl(const Impl &) = delete;
  Impl &operator=(const Impl &) = delete;

  asio::posix::stream_descriptor sockets;
  Signal ready;
  Clock::time_point deadline;
  ares_channel channel = nullptr;
  std::vector<model::DnsServer> servers;
  size_t open = 0;
  bool stopped = false;

  Status init(std::chrono::milliseconds timeout);
  void note_system_servers();
  void wait_for_sockets();
  void serve();
  Clock::time_point next_deadline();
  static void on_socket(void *user, ares_socket_t socket, int readable, int writable);
  static void on_answer(void *user, int status, int timeouts, unsigned char *message, int length);
};

Status DnsResolver::Impl::init(std::chrono::milliseconds timeout) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  ares_options options{};
  options.flags = ARES_FLAG_EDNS | ARES_FLAG_STAYOPEN | ARES_FLAG_NOSEARCH;
  options.ednspsz = kEdnsBytes;
  options.tries = kTries;
  // c-ares waits twice as long the second time that it goes through the servers.
  const auto rounds = static_cast<int64_t>(3 * std::max<size_t>(1, servers.size()));
  options.timeout = static_cast<int>(std::max<int64_t>(1, timeout.count() / rounds));
  options.sock_state_cb = on_socket;
  options.sock_state_cb_data = this;
  const int mask =
      ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS | ARES_OPT_SOCK_STATE_CB;
  const int made = library != ARES_SUCCESS ? library : ares_init_options(&channel, &options, mask);
  if (made != ARES_SUCCESS) return Error{fmt::format("c-ares: {}", ares_strerror(made))};
  if (servers.empty()) {
    note_system_servers();
    return Done{};
  }
  std::string list;
  for (const model::DnsServer &server : servers) {
    const bool ipv4 = address_is_ipv4(&server.address);
    list += fmt::format("{}{}{}{}:{}", list.empty() ? "" : ",", ipv4 ? "" : "[",
                        format_address(server.address), ipv4 ? "" : "]", server.l4_port);
  }
  const int set = ares_set_servers_ports_csv(channel, list.c_str());
  return set == ARES_SUCCESS ? Status(Done{}) : Status(Error{fmt::format("servers: {}", ares_strerror(set))});
}

// For texts.
void DnsResolver::Impl::note_system_servers() {
  ares_addr_port_node *first = nullptr;
  if (ares_get_servers_ports(channel, &first) != ARES_SUCCESS) return;
  for (const ares_addr_port_node *node = first; node != nullptr; node = node->next) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (inet_ntop(node->family, &node->addr, text.data(), text.size()) == nullptr) continue;
    const auto address = parse_address(text.data());
    const uint16_t l4_port = node->udp_port == 0 ? 53 : static_cast<uint16_t>(node->udp_port);
    if (address) servers.push_back({*address, l4_port});
  }
  ares_free_data(first);
}

void DnsResolver::Impl::on_socket(void *user, ares_socket_t socket, int readable, int writable) {
  auto *impl = static_cast<Impl *>(user);
  const int epoll_fd = impl->sockets.native_handle();
  if (readable == 0 && writable == 0) {
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, nullptr);
    return;
  }
  epoll_event event{};
  event.data.fd = socket;
  if (readable != 0) event.events |= EPOLLIN;
  if (writable != 0) event.events |= EPOLLOUT;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, socket, &event) != 0)
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, socket, &event);
}

void DnsResolver::Impl::on_answer(void *user, int status, int /*timeouts*/, unsigned char *message,
                                  int length) {
  const std::unique_ptr<Question> question(static_cast<Question *>(user));
  --*question->open;
  std::string bytes;
  if (message != nullptr) bytes.assign(reinterpret_cast<const char *>(message), static_cast<size_t>(length));
  question->answered(status, std::move(bytes));
}

void DnsResolver::Impl::wait_for_sockets() {
  sockets.async_wait(asio::posix::stream_descriptor::wait_read,
                     [this](const boost::system::error_code &error) {
                       if (!error) ready.raise();
                     });
}

void DnsResolver::Impl::serve() {
  std::array<epoll_event, 64> events{};
  const int count = epoll_wait(sockets.native_handle(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; i++) {
    const epoll_event &event = events[static_cast<size_t>(i)];
    const bool in = (event.events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0;
    const bool out = (event.events & EPOLLOUT) != 0;
    ares_process_fd(channel, in ? event.data.fd : ARES_SOCKET_BAD, out ? event.data.fd : ARES_SOCKET_BAD);
  }
  ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // what has waited for too long
}

Clock::time_point DnsResolver::Impl::next_deadline() {
  timeval buffer{};
  const timeval *left = ares_timeout(channel, nullptr, &buffer);
  if (left == nullptr) return deadline;
  const auto wait = std::chrono::seconds(left->tv_sec) + std::chrono::microseconds(left->tv_usec);
  return std::min(deadline, Clock::now() + wait + std::chrono::milliseconds(1));
}

DnsResolver::DnsResolver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DnsResolver::~DnsResolver() = default;

Result<std::unique_ptr<DnsResolver>> DnsResolver::create(asio::io_context &io,
                                                         const std::vector<model::DnsServer> &servers,
                                                         std::chrono::milliseconds timeout) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return Error{"cannot make an event queue: " + std::generic_category().message(errno)};
  auto impl = std::make_unique<Impl>(io, epoll_fd, timeout);
  impl->servers = servers;
  if (const Status made = impl->init(timeout); !made.ok()) return made.error();
  return std::unique_ptr<DnsResolver>(new DnsResolver(std::move(impl)));
}

void DnsResolver::ask(const std::string &name, int record_type, Answered answered) {
  ++impl_->open;
  auto question = std::make_unique<Question>(Question{std::move(answered), &impl_->open});
  ares_query(impl_->channel, name.c_str(), kClassIn, record_type, Impl::on_answer, question.release());
}

asio::awaitable<void> DnsResolver::finish() {
  while (impl_->open > 0 && !impl_->stopped && Clock::now() < impl_->deadline) {
    impl_->wait_for_sockets();
    co_await impl_->ready.wait_until(impl_->next_deadline());
    impl_->sockets.cancel();
    impl_->serve();
  }
  if (impl_->open > 0) ares_cancel(impl_->channel);
}

void DnsResolver::stop() {
  impl_->stopped = true;
  impl_->ready.raise();
}

std::string DnsResolver::servers_text() const {
  std::string text;
  for (const model::DnsServer &server : impl_->servers) {
    text += (text.empty() ? "" : ", ") + server_text(server.address, server.l4_port);
  }
  return text;
}

}  // namespace sluice
