// The keys below a prefix of etcd: read as a whole, then watched from the revision of that reading on.
#include <deque>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/co_spawn.hpp>
#include <spdlog/fmt/fmt.h>

#include "controlplane/discovery/messages/etcd_message.h"
#include "controlplane/discovery/source.h"
#include "controlplane/discovery/sources/http_client.h"
#include "controlplane/health/probes/small_file.h"

namespace sluice {

namespace {

namespace asio = boost::asio;

constexpr size_t kMaxLineBytes = 64u << 20;
constexpr size_t kMaxPasswordKib = 64;
constexpr long kUnauthorized = 401;
// A watch that ends sooner was of no use: the next one waits.
constexpr std::chrono::seconds kShortWatch{1};

// A watch that runs: the coroutine that carries it out keeps it alive.
struct Watch {
  Watch(SourceContext &context, const model::EtcdSource &etcd)
      : client(context, etcd.endpoints, etcd.tls), news(context.io) {}

  HttpClient client;
  HttpQuestion question;
  Signal news;
  Signal::Clock::time_point began = Signal::Clock::now();
  std::string begin_of_line;
  std::deque<std::string> lines;
  bool ended = false;

  bool on_data(std::string_view data) {
    for (size_t end = data.find('\n'); end != data.npos; end = data.find('\n')) {
      lines.push_back(begin_of_line + std::string(data.substr(0, end)));
      begin_of_line.clear();
      data.remove_prefix(end + 1);
    }
    begin_of_line += data;
    news.raise();
    return begin_of_line.size() <= kMaxLineBytes;
  }
};

asio::awaitable<void> carry_out(std::shared_ptr<Watch> watch) {
  (void)co_await watch->client.ask(watch->question);  // why it ended is said by the reading that follows
  watch->ended = true;
  watch->news.raise();
}

class EtcdSource : public Source {
 public:
  EtcdSource(SourceContext &context, const model::DiscoverySpec &spec)
      : context_(context),
        spec_(spec),
        etcd_(std::get<model::EtcdSource>(spec.kind)),
        client_(context, etcd_.endpoints, etcd_.tls) {}
  ~EtcdSource() override { end_watch(); }

  asio::awaitable<Result<Said>> next() override {
    if (watch_ != nullptr && co_await changed()) co_return Said{etcd_backends(values_, spec_.weight), {}};
    const bool short_watch = watch_ != nullptr && Signal::Clock::now() - watch_->began < kShortWatch;
    end_watch();
    co_return co_await read(short_watch ? std::chrono::milliseconds(kShortWatch)
                                        : std::chrono::milliseconds(0));
  }

  void stop() override {
    client_.stop();
    end_watch();
    stopped_ = true;
  }

 private:
  // Waits for news. False: everything has to be read again, because the watch has ended, or lasts for so long
  // that nobody knows whether its connection still is one.
  asio::awaitable<bool> changed() {
    const std::shared_ptr<Watch> watch = watch_;
    const auto until = watch->began + spec_.interval;
    while (true) {
      bool any = false;
      while (!watch->lines.empty()) {
        const Result<EtcdNews> news = parse_etcd_news(watch->lines.front());
        watch->lines.pop_front();
        if (!news.ok() || news.value().canceled) co_return false;
        for (const EtcdEvent &event : news.value().events) note(event);
        any = any || !news.value().events.empty();
      }
      if (any) co_return true;
      if (watch->ended || stopped_ || Signal::Clock::now() >= until) co_return false;
      co_await watch->news.wait_until(until);
    }
  }

  void note(const EtcdEvent &event) {
    if (event.deleted) {
      values_.erase(event.key);
    } else {
      values_[event.key] = event.value;
    }
  }

  asio::awaitable<Result<Said>> read(std::chrono::milliseconds wait) {
    Result<HttpAnswer> answer = co_await ask("/v3/kv/range", etcd_range_request(etcd_.prefix));
    if (answer.ok() && answer.value().status == kUnauthorized && !etcd_.username.empty()) {
      token_.clear();  // tokens end
      answer = co_await ask("/v3/kv/range", etcd_range_request(etcd_.prefix));
    }
    if (!answer.ok()) co_return answer.error();
    if (answer.value().status != 200) co_return refusal(answer.value());
    Result<EtcdRange> range = parse_etcd_range(answer.value().body);
    if (!range.ok()) co_return Error{client_.endpoint() + ": " + range.error().message};
    values_ = std::move(range.value().values);
    begin_watch(range.value().revision + 1);
    co_return Said{etcd_backends(values_, spec_.weight), wait};
  }

  Error refusal(const HttpAnswer &answer) const {
    return Error{fmt::format("{}: HTTP status {}: {}", client_.endpoint(), answer.status,
                             etcd_error_text(answer.body))};
  }

  // With a token, where etcd wants one.
  asio::awaitable<Result<HttpAnswer>> ask(const std::string &path, std::string body) {
    if (!etcd_.username.empty() && token_.empty()) {
      const Status logged_in = co_await log_in();
      if (!logged_in.ok()) co_return logged_in.error();
    }
    HttpQuestion question = question_of(path, std::move(body));
    question.timeout = spec_.timeout;
    co_return co_await client_.ask(question);
  }

  HttpQuestion question_of(const std::string &path, std::string body) const {
    HttpQuestion question;
    question.path = path;
    question.body = std::move(body);
    if (!token_.empty()) question.headers.push_back("Authorization: " + token_);
    return question;
  }

  asio::awaitable<Status> log_in() {
    const auto password = read_small_file(etcd_.password_file, kMaxPasswordKib);
    if (!password.ok())
      co_return Error{"password_file " + etcd_.password_file + ": " + password.error().message};
    const std::string &text = password.value();
    HttpQuestion question =
        question_of("/v3/auth/authenticate",
                    etcd_login_request(etcd_.username, text.substr(0, text.find_first_of("\r\n"))));
    question.timeout = spec_.timeout;
    const Result<HttpAnswer> answer = co_await client_.ask(question);
    if (!answer.ok()) co_return answer.error();
    if (answer.value().status != 200) co_return refusal(answer.value());
    Result<std::string> token = parse_etcd_token(answer.value().body);
    if (!token.ok()) co_return token.error();
    token_ = std::move(token).value();
    co_return Done{};
  }

  void begin_watch(int64_t first_revision) {
    if (stopped_) return;
    watch_ = std::make_shared<Watch>(context_, etcd_);
    watch_->question = question_of("/v3/watch", etcd_watch_request(etcd_.prefix, first_revision));
    watch_->question.timeout = spec_.interval + spec_.timeout;
    watch_->question.connect_timeout = spec_.timeout;
    watch_->question.most_endpoints = 1;  // at another one it would begin anew in the middle
    watch_->client.begin_at(client_);
    watch_->question.on_data = [watch = watch_.get()](std::string_view data) { return watch->on_data(data); };
    asio::co_spawn(context_.io, carry_out(watch_), [](const std::exception_ptr & /*fault*/) {});
  }

  void end_watch() {
    if (watch_ == nullptr) return;
    watch_->client.stop();
    watch_->news.raise();
    watch_.reset();
  }

  SourceContext &context_;
  const model::DiscoverySpec &spec_;
  const model::EtcdSource &etcd_;
  HttpClient client_;
  std::string token_;
  std::map<std::string, std::string> values_;  // by key, as of the last reading or news
  std::shared_ptr<Watch> watch_;
  bool stopped_ = false;
};

}  // namespace

std::unique_ptr<Source> make_etcd_source(SourceContext &context, const model::DiscoverySpec &spec) {
  return std::make_unique<EtcdSource>(context, spec);
}

}  // namespace sluice
