#include "controlplane/health/probes/curl_transfers.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <unordered_set>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/epoll.h>

namespace sluice {

namespace asio = boost::asio;
using boost::system::error_code;

// libcurl's sockets are in an epoll of their own, which Asio's waits for: so libcurl opens and closes them as
// it likes, and Asio never hears of one that is gone.
struct CurlTransfers::Impl {
  using Finish = std::function<void(CURLcode)>;

  explicit Impl(asio::io_context &io, int epoll_fd)
      : sockets(io, epoll_fd), timer(io), multi(curl_multi_init()) {}
  // Who waits for a transfer is unwound by the loop, after this.
  ~Impl() {
    for (CURL *easy : running_transfers) {
      curl_multi_remove_handle(multi, easy);
      const std::unique_ptr<Finish> dropped(finish_of(easy));
    }
    curl_multi_cleanup(multi);
  }

  asio::posix::stream_descriptor sockets;
  asio::steady_timer timer;
  CURLM *multi;
  std::unordered_set<CURL *> running_transfers;

  // CURLOPT_PRIVATE of each running handle.
  static Finish *finish_of(CURL *easy) {
    Finish *finish = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &finish);
    return finish;
  }

  // CURLMOPT_SOCKETFUNCTION: what libcurl wants to hear of a socket.
  static int on_socket(CURL * /*easy*/, curl_socket_t socket, int what, void *user, void * /*socket_data*/) {
    const int epoll_fd = static_cast<Impl *>(user)->sockets.native_handle();
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.fd = socket;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) event.events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) event.events |= EPOLLOUT;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, socket, &event) == 0) return 0;
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, socket, &event) == 0 ? 0 : -1;
  }

  // CURLMOPT_TIMERFUNCTION: when libcurl wants to be called next; -1 takes the timer away.
  static int on_timer(CURLM * /*multi*/, long timeout_ms, void *user) {
    auto *impl = static_cast<Impl *>(user);
    if (timeout_ms < 0) {
      impl->timer.cancel();
      return 0;
    }
    impl->timer.expires_after(std::chrono::milliseconds(timeout_ms));
    impl->timer.async_wait([impl](const error_code &error) {
      if (error) return;
      int running = 0;
      curl_multi_socket_action(impl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
      impl->finish_ended();
    });
    return 0;
  }

  void wait_for_sockets() {
    sockets.async_wait(asio::posix::stream_descriptor::wait_read, [this](const error_code &error) {
      if (error) return;
      serve_sockets();
      wait_for_sockets();
    });
  }

  void serve_sockets() {
    std::array<epoll_event, 256> events{};
    const int count = epoll_wait(sockets.native_handle(), events.data(), static_cast<int>(events.size()), 0);
    int running = 0;
    for (int i = 0; i < count; i++) {
      const epoll_event &event = events[static_cast<size_t>(i)];
      int action = 0;
      if ((event.events & EPOLLIN) != 0) action |= CURL_CSELECT_IN;
      if ((event.events & EPOLLOUT) != 0) action |= CURL_CSELECT_OUT;
      if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) action |= CURL_CSELECT_ERR;
      curl_multi_socket_action(multi, event.data.fd, action, &running);
    }
    finish_ended();
  }

  void finish_ended() {
    int left = 0;
    while (CURLMsg *message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      CURL *easy = message->easy_handle;
      const std::unique_ptr<Finish> finish(finish_of(easy));
      curl_multi_remove_handle(multi, easy);
      running_transfers.erase(easy);
      (*finish)(code);
    }
  }
};

CurlTransfers::CurlTransfers(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CurlTransfers::~CurlTransfers() = default;

Result<std::unique_ptr<CurlTransfers>> CurlTransfers::create(asio::io_context &io) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) {
    return Error{"health checks: cannot make an event queue: " + std::generic_category().message(errno)};
  }
  auto impl = std::make_unique<Impl>(io, epoll_fd);
  if (impl->multi == nullptr) return Error{"health checks: libcurl cannot start: out of memory"};
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETFUNCTION, Impl::on_socket);
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETDATA, impl.get());
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERFUNCTION, Impl::on_timer);
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERDATA, impl.get());
  curl_multi_setopt(impl->multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
  impl->wait_for_sockets();
  return std::unique_ptr<CurlTransfers>(new CurlTransfers(std::move(impl)));
}

asio::awaitable<CURLcode> CurlTransfers::perform(CURL *easy) {
  Impl *impl = impl_.get();
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(CURLcode)>(
      [impl, easy](auto handler) {
        // A std::function must be copyable, a handler of a coroutine is not: hence the pointer.
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto finish = std::make_unique<Impl::Finish>([shared](CURLcode code) {
          asio::post(asio::get_associated_executor(*shared), [shared, code] { (*shared)(code); });
        });
        curl_easy_setopt(easy, CURLOPT_PRIVATE, finish.get());
        if (curl_multi_add_handle(impl->multi, easy) != CURLM_OK) return (*finish)(CURLE_OUT_OF_MEMORY);
        impl->running_transfers.insert(easy);
        finish.release();  // NOLINT(bugprone-unused-return-value): finish_ended() or ~Impl() deletes it
      },
      asio::use_awaitable);
}

}  // namespace sluice
