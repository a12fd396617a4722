#include "controlplane/health/prober.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <vector>

#include <curl/curl.h>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "controlplane/health/check_text.h"

namespace sluice {

namespace {

constexpr uint64_t kReservedDescriptors = 512;  // snapshot, sockets, API connections, log
constexpr uint64_t kMinConcurrentChecks = 16;
constexpr uint64_t kMaxConcurrentChecks = 16384;
constexpr size_t kMaxIdleHandles = 256;
constexpr long kReceiveBufferBytes = 4096;

// A running check.
struct Probe {
  CURL *easy = nullptr;
  curl_slist *headers = nullptr;
  uint64_t token = 0;
  CheckSpec spec;
  size_t body_bytes = 0;
  bool body_cut = false;
};

size_t count_body(const char * /*data*/, size_t size, size_t count, void *user) {
  auto *probe = static_cast<Probe *>(user);
  probe->body_bytes += size * count;
  if (probe->body_bytes <= kMaxCheckBodyBytes) return size * count;
  probe->body_cut = true;
  return 0;  // ends the transfer
}

std::string check_url(const CheckSpec &spec) {
  const std::string literal = format_address(spec.address);
  const std::string host = address_is_ipv4(&spec.address) ? literal : "[" + literal + "]";
  return fmt::format("http://{}:{}{}", host, spec.l4_port, spec.type == CheckType::kHttp ? spec.path : "/");
}

// Sets every option that a check depends on: the handle comes from curl_easy_init() or curl_easy_reset().
void set_options(Probe &probe) {
  CURL *easy = probe.easy;
  const CheckSpec &spec = probe.spec;
  curl_easy_setopt(easy, CURLOPT_URL, check_url(spec).c_str());
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &probe);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<int64_t>(1, spec.timeout.count())));
  if (spec.type == CheckType::kTcp) {
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    return;
  }
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "sluice-health");
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, count_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &probe);
  probe.headers = curl_slist_append(nullptr, "Connection: close");
  if (!spec.host.empty()) probe.headers = curl_slist_append(probe.headers, ("Host: " + spec.host).c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, probe.headers);
}

// Whether the kernel finds a source address for packets to `address`. Connecting a UDP socket sends nothing
// and takes none of TCP's local ports.
bool has_source_address(const Address &address) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (address_is_ipv4(&address)) {
    auto *ipv4 = reinterpret_cast<sockaddr_in *>(&storage);
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(9);
    std::memcpy(&ipv4->sin_addr, &address.word[3], sizeof(ipv4->sin_addr));
    length = sizeof(*ipv4);
  } else {
    auto *ipv6 = reinterpret_cast<sockaddr_in6 *>(&storage);
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(9);
    std::memcpy(&ipv6->sin6_addr, address.word, sizeof(ipv6->sin6_addr));
    length = sizeof(*ipv6);
  }
  const int probe = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return true;  // cannot tell
  const int connected = connect(probe, reinterpret_cast<const sockaddr *>(&storage), length);
  const int why = errno;
  close(probe);
  return connected == 0 || why != EADDRNOTAVAIL;
}

TransferEnd transfer_end(const Probe &probe, CURLcode code) {
  TransferEnd end;
  end.curl_code = code;
  end.body_cut = probe.body_cut;
  long system_error = 0;
  curl_easy_getinfo(probe.easy, CURLINFO_OS_ERRNO, &system_error);
  end.system_error = static_cast<int>(system_error);
  end.no_source = end.system_error == EADDRNOTAVAIL && !has_source_address(probe.spec.address);
  curl_easy_getinfo(probe.easy, CURLINFO_RESPONSE_CODE, &end.http_status);
  curl_off_t connect_time_us = 0;
  curl_easy_getinfo(probe.easy, CURLINFO_CONNECT_TIME_T, &connect_time_us);
  end.connected = connect_time_us > 0;
  return end;
}

}  // namespace

struct Prober::Impl {
  Done done;
  CURLM *multi = nullptr;
  int epoll_fd = -1;
  int wake_fd = -1;
  std::optional<Clock::time_point> curl_deadline;
  std::unordered_set<Probe *> probes;
  std::vector<CURL *> idle;                                       // reset handles, ready for another check
  std::vector<std::pair<uint64_t, CheckResult>> failed_to_start;  // told at the next serve_until()

  ~Impl() {
    for (Probe *probe : probes) {
      curl_multi_remove_handle(multi, probe->easy);
      curl_easy_cleanup(probe->easy);
      curl_slist_free_all(probe->headers);
      delete probe;
    }
    for (CURL *easy : idle) curl_easy_cleanup(easy);
    if (multi != nullptr) curl_multi_cleanup(multi);
    if (wake_fd >= 0) close(wake_fd);
    if (epoll_fd >= 0) close(epoll_fd);
  }

  // CURLMOPT_SOCKETFUNCTION: what libcurl wants to hear of a socket.
  static int on_socket(CURL * /*easy*/, curl_socket_t socket, int what, void *user, void * /*socket_data*/) {
    auto *impl = static_cast<Impl *>(user);
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(impl->epoll_fd, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.fd = socket;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) event.events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) event.events |= EPOLLOUT;
    if (epoll_ctl(impl->epoll_fd, EPOLL_CTL_MOD, socket, &event) == 0) return 0;
    return epoll_ctl(impl->epoll_fd, EPOLL_CTL_ADD, socket, &event) == 0 ? 0 : -1;
  }

  // CURLMOPT_TIMERFUNCTION: when libcurl wants to be called next; -1 takes the timer away.
  static int on_timer(CURLM * /*multi*/, long timeout_ms, void *user) {
    auto *impl = static_cast<Impl *>(user);
    if (timeout_ms < 0) {
      impl->curl_deadline.reset();
    } else {
      impl->curl_deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    }
    return 0;
  }

  void wait_and_serve(Clock::time_point deadline);
  bool finish_ended();
  void recycle(Probe *probe);
};

void Prober::Impl::recycle(Probe *probe) {
  curl_multi_remove_handle(multi, probe->easy);
  curl_slist_free_all(probe->headers);
  if (idle.size() < kMaxIdleHandles) {
    curl_easy_reset(probe->easy);
    idle.push_back(probe->easy);
  } else {
    curl_easy_cleanup(probe->easy);
  }
  probes.erase(probe);
  delete probe;
}

// Reports and frees the checks that have ended; false if there were none.
bool Prober::Impl::finish_ended() {
  std::vector<std::pair<uint64_t, CheckResult>> ended = std::move(failed_to_start);
  failed_to_start.clear();
  int left = 0;
  while (CURLMsg *message = curl_multi_info_read(multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Probe *probe = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &probe);
    ended.emplace_back(probe->token, judge_check(probe->spec, transfer_end(*probe, message->data.result)));
    recycle(probe);
  }
  for (const auto &[token, result] : ended) done(token, result);
  return !ended.empty();
}

// One wait, up to `deadline` or libcurl's own, and then what libcurl has to do.
void Prober::Impl::wait_and_serve(Clock::time_point deadline) {
  const Clock::time_point until = curl_deadline ? std::min(*curl_deadline, deadline) : deadline;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
  const int wait_ms = static_cast<int>(std::clamp<int64_t>(wait.count(), 0, 60'000));
  std::array<epoll_event, 256> events{};
  const int count = epoll_wait(epoll_fd, events.data(), static_cast<int>(events.size()), wait_ms);
  int running = 0;
  for (int i = 0; i < count; i++) {
    const epoll_event &event = events[static_cast<size_t>(i)];
    if (event.data.fd == wake_fd) {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = read(wake_fd, &ignored, sizeof(ignored));
      continue;
    }
    int action = 0;
    if ((event.events & EPOLLIN) != 0) action |= CURL_CSELECT_IN;
    if ((event.events & EPOLLOUT) != 0) action |= CURL_CSELECT_OUT;
    if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) action |= CURL_CSELECT_ERR;
    curl_multi_socket_action(multi, event.data.fd, action, &running);
  }
  if (curl_deadline && *curl_deadline <= Clock::now()) {
    curl_deadline.reset();
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
  }
}

Prober::Prober(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Prober::~Prober() = default;

Result<std::unique_ptr<Prober>> Prober::create(Done done) {
  auto impl = std::make_unique<Impl>();
  impl->done = std::move(done);
  impl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  impl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  impl->multi = curl_multi_init();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = impl->wake_fd;
  if (impl->epoll_fd < 0 || impl->wake_fd < 0 || impl->multi == nullptr ||
      epoll_ctl(impl->epoll_fd, EPOLL_CTL_ADD, impl->wake_fd, &event) != 0) {
    return Error{"health checks: cannot make an event queue: " + std::generic_category().message(errno)};
  }
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETFUNCTION, Impl::on_socket);
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETDATA, impl.get());
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERFUNCTION, Impl::on_timer);
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERDATA, impl.get());
  curl_multi_setopt(impl->multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
  return std::unique_ptr<Prober>(new Prober(std::move(impl)));
}

void Prober::start(uint64_t token, const CheckSpec &spec) {
  auto *probe = new Probe;
  probe->token = token;
  probe->spec = spec;
  if (impl_->idle.empty()) {
    probe->easy = curl_easy_init();
  } else {
    probe->easy = impl_->idle.back();
    impl_->idle.pop_back();
  }
  if (probe->easy == nullptr) {
    impl_->failed_to_start.emplace_back(
        token, CheckResult{CheckOutcome::kNotCarriedOut, "not checked: out of memory on this host"});
    delete probe;
    return;
  }
  impl_->probes.insert(probe);
  set_options(*probe);
  const CURLMcode added = curl_multi_add_handle(impl_->multi, probe->easy);
  if (added == CURLM_OK) return;
  impl_->failed_to_start.emplace_back(
      token,
      CheckResult{CheckOutcome::kNotCarriedOut, std::string("not checked: ") + curl_multi_strerror(added)});
  impl_->recycle(probe);
}

void Prober::serve_until(Clock::time_point deadline) {
  if (!impl_->failed_to_start.empty()) deadline = Clock::now();
  impl_->wait_and_serve(deadline);
  impl_->finish_ended();
}

void Prober::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(impl_->wake_fd, &one, sizeof(one));
}

size_t Prober::running() const { return impl_->probes.size(); }

size_t concurrent_check_limit(uint64_t descriptors) {
  const uint64_t left = descriptors > kReservedDescriptors ? descriptors - kReservedDescriptors : 0;
  return static_cast<size_t>(std::clamp(left, kMinConcurrentChecks, kMaxConcurrentChecks));
}

}  // namespace sluice
