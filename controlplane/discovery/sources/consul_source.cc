// The passing instances of a service of Consul, by blocking queries.
#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"
#include "controlplane/discovery/messages/consul_message.h"
#include "controlplane/discovery/source.h"
#include "controlplane/discovery/sources/http_client.h"
#include "controlplane/health/probes/small_file.h"

namespace sluice {

namespace {

namespace asio = boost::asio;

constexpr size_t kMaxTokenKib = 64;
constexpr std::chrono::milliseconds kShortAnswer{1000};

std::string encoded(const std::string &text) {
  const std::unique_ptr<char, void (*)(void *)> made(
      curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size())), curl_free);
  return made == nullptr ? "" : made.get();
}

class ConsulSource : public Source {
 public:
  ConsulSource(SourceContext &context, const model::DiscoverySpec &spec)
      : spec_(spec),
        consul_(std::get<model::ConsulSource>(spec.kind)),
        client_(context, consul_.endpoints, consul_.tls) {}

  asio::awaitable<Result<Said>> next() override {
    const auto began = Signal::Clock::now();
    Result<HttpQuestion> question = make_question();
    if (!question.ok()) co_return question.error();
    const std::string endpoint = client_.endpoint();
    const Result<HttpAnswer> asked = co_await client_.ask(question.value());
    const uint64_t last = std::exchange(index_, 0);  // an answer sets it anew
    if (!asked.ok()) co_return asked.error();
    const HttpAnswer &answer = asked.value();
    if (answer.status != 200) {
      co_return Error{
          fmt::format("{}: HTTP status {}: {}", client_.endpoint(), answer.status, in_quotes(answer.body))};
    }
    Result<Answer> instances = parse_consul_instances(answer.body, spec_.weight);
    if (!instances.ok()) co_return Error{client_.endpoint() + ": " + instances.error().message};
    // Another agent counts by itself.
    const auto index = answer.headers.find("x-consul-index");
    if (index != answer.headers.end())
      index_ = next_consul_index(client_.endpoint() == endpoint ? last : 0, index->second);
    // An answer that did not wait for a change must not be followed by the next question at once.
    const bool waited = Signal::Clock::now() - began >= kShortAnswer;
    const bool changed = index_ != 0 && index_ != last;
    co_return Said{std::move(instances).value(),
                   waited || changed ? std::chrono::milliseconds(0) : kShortAnswer};
  }

  void stop() override { client_.stop(); }

 private:
  Result<HttpQuestion> make_question() const {
    HttpQuestion question;
    question.path = "/v1/health/service/" + encoded(consul_.service) + "?passing=1";
    if (!consul_.datacenter.empty()) question.path += "&dc=" + encoded(consul_.datacenter);
    if (!consul_.tag.empty()) question.path += "&tag=" + encoded(consul_.tag);
    question.timeout = spec_.timeout;
    if (index_ != 0) {
      question.path += fmt::format("&index={}&wait={}ms", index_, spec_.interval.count());
      question.timeout += spec_.interval + spec_.interval / 16;  // Consul waits longer by up to that
    }
    if (consul_.token_file.empty()) return question;
    const auto token = read_small_file(consul_.token_file, kMaxTokenKib);
    if (!token.ok()) return Error{"token_file " + consul_.token_file + ": " + token.error().message};
    question.headers.push_back("X-Consul-Token: " +
                               token.value().substr(0, token.value().find_first_of("\r\n")));
    return question;
  }

  const model::DiscoverySpec &spec_;
  const model::ConsulSource &consul_;
  HttpClient client_;
  uint64_t index_ = 0;  // of the last answer; 0: ask without waiting
};

}  // namespace

std::unique_ptr<Source> make_consul_source(SourceContext &context, const model::DiscoverySpec &spec) {
  return std::make_unique<ConsulSource>(context, spec);
}

}  // namespace sluice
