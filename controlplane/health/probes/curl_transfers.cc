#include "controlplane/health/probes/curl_transfers.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <unordered_set>
#include <vector>

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

namespace {

// libcurl walks through all of a multi handle's transfers again and again: with thousands in one, each
// waiting for its backend, it does nothing else.
constexpr size_t kShards = 64;

using Finish = std::function<void(CURLcode)>;

// CURLOPT_PRIVATE of each running handle: who waits for it.
Finish *finish_of(CURL *easy) {
  Finish *finish = nullptr;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &finish);
  return finish;
}

// One multi handle: its share of the transfers.
class Shard {
 public:
  Shard(asio::io_context &io, int epoll_fd, uint32_t number)
      : epoll_fd_(epoll_fd), number_(number), timer_(io), multi_(curl_multi_init()) {
    if (multi_ == nullptr) return;
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
  }
  // Who waits for a transfer is unwound by the loop, after this.
  ~Shard() {
    for (CURL *easy : running_) {
      curl_multi_remove_handle(multi_, easy);
      const std::unique_ptr<Finish> dropped(finish_of(easy));
    }
    curl_multi_cleanup(multi_);
  }
  Shard(const Shard &) = delete;
  Shard &operator=(const Shard &) = delete;

  bool ok() const { return multi_ != nullptr; }

  void start(CURL *easy, std::unique_ptr<Finish> finish) {
    curl_easy_setopt(easy, CURLOPT_PRIVATE, finish.get());
    if (curl_multi_add_handle(multi_, easy) != CURLM_OK) return (*finish)(CURLE_OUT_OF_MEMORY);
    running_.insert(easy);
    finish.release();  // NOLINT(bugprone-unused-return-value): finish_ended() or the destructor deletes it
  }

  // Whether it was this shard's.
  bool cancel(CURL *easy) {
    if (running_.erase(easy) == 0) return false;
    const std::unique_ptr<Finish> finish(finish_of(easy));
    curl_multi_remove_handle(multi_, easy);
    (*finish)(CURLE_ABORTED_BY_CALLBACK);
    return true;
  }

  // `action`: CURL_CSELECT_*.
  void act(curl_socket_t socket, int action) {
    int running = 0;
    curl_multi_socket_action(multi_, socket, action, &running);
    finish_ended();
  }

 private:
  // CURLMOPT_SOCKETFUNCTION: what libcurl wants to hear of a socket.
  static int on_socket(CURL * /*easy*/, curl_socket_t socket, int what, void *user, void * /*socket_data*/) {
    const auto *shard = static_cast<const Shard *>(user);
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(shard->epoll_fd_, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.u64 = uint64_t{shard->number_} << 32 | static_cast<uint32_t>(socket);
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) event.events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) event.events |= EPOLLOUT;
    if (epoll_ctl(shard->epoll_fd_, EPOLL_CTL_MOD, socket, &event) == 0) return 0;
    return epoll_ctl(shard->epoll_fd_, EPOLL_CTL_ADD, socket, &event) == 0 ? 0 : -1;
  }

  // CURLMOPT_TIMERFUNCTION: when libcurl wants to be called next; -1 takes the timer away.
  static int on_timer(CURLM * /*multi*/, long timeout_ms, void *user) {
    auto *shard = static_cast<Shard *>(user);
    if (timeout_ms < 0) {
      shard->timer_.cancel();
      return 0;
    }
    shard->timer_.expires_after(std::chrono::milliseconds(timeout_ms));
    shard->timer_.async_wait([shard](const error_code &error) {
      if (!error) shard->act(CURL_SOCKET_TIMEOUT, 0);
    });
    return 0;
  }

  void finish_ended() {
    int left = 0;
    while (CURLMsg *message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      CURL *easy = message->easy_handle;
      const std::unique_ptr<Finish> finish(finish_of(easy));
      curl_multi_remove_handle(multi_, easy);
      running_.erase(easy);
      (*finish)(code);
    }
  }

  int epoll_fd_;
  uint32_t number_;
  asio::steady_timer timer_;
  CURLM *multi_;
  std::unordered_set<CURL *> running_;
};

}  // namespace

// libcurl's sockets are in an epoll of their own, which Asio's waits for: so libcurl opens and closes them as
// it likes, and Asio never hears of one that is gone.
struct CurlTransfers::Impl {
  Impl(asio::io_context &io, int epoll_fd) : sockets(io, epoll_fd) {
    for (uint32_t i = 0; i < kShards; ++i) shards.push_back(std::make_unique<Shard>(io, epoll_fd, i));
  }

  asio::posix::stream_descriptor sockets;
  std::vector<std::unique_ptr<Shard>> shards;
  size_t next_shard = 0;

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
    for (int i = 0; i < count; i++) {
      const epoll_event &event = events[static_cast<size_t>(i)];
      int action = 0;
      if ((event.events & EPOLLIN) != 0) action |= CURL_CSELECT_IN;
      if ((event.events & EPOLLOUT) != 0) action |= CURL_CSELECT_OUT;
      if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) action |= CURL_CSELECT_ERR;
      shards[event.data.u64 >> 32]->act(static_cast<curl_socket_t>(event.data.u64 & 0xffffffff), action);
    }
  }
};

CurlTransfers::CurlTransfers(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CurlTransfers::~CurlTransfers() = default;

Result<std::unique_ptr<CurlTransfers>> CurlTransfers::create(asio::io_context &io) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) {
    return Error{"HTTP: cannot make an event queue: " + std::generic_category().message(errno)};
  }
  auto impl = std::make_unique<Impl>(io, epoll_fd);
  for (const auto &shard : impl->shards) {
    if (!shard->ok()) return Error{"HTTP: libcurl cannot start: out of memory"};
  }
  impl->wait_for_sockets();
  return std::unique_ptr<CurlTransfers>(new CurlTransfers(std::move(impl)));
}

void CurlTransfers::cancel(CURL *easy) {
  for (const auto &shard : impl_->shards) {
    if (shard->cancel(easy)) return;
  }
}

asio::awaitable<CURLcode> CurlTransfers::perform(CURL *easy) {
  Impl *impl = impl_.get();
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(CURLcode)>(
      [impl, easy](auto handler) {
        // A std::function must be copyable, a handler of a coroutine is not: hence the pointer.
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto finish = std::make_unique<Finish>([shared](CURLcode code) {
          asio::post(asio::get_associated_executor(*shared), [shared, code] { (*shared)(code); });
        });
        Shard &shard = *impl->shards[impl->next_shard++ % kShards];
        shard.start(easy, std::move(finish));
      },
      asio::use_awaitable);
}

}  // namespace sluice
