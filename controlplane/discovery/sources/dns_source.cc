// The addresses of a name, or the targets of a service and their addresses, asked again when they have had
// their time.
#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include <ares.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/discovery/messages/dns_message.h"
#include "controlplane/discovery/source.h"
#include "controlplane/discovery/sources/dns_resolver.h"
#include "controlplane/health/check_text.h"

namespace sluice {

namespace {

namespace asio = boost::asio;

constexpr int kTypeA = 1;
constexpr int kTypeAaaa = 28;
constexpr int kTypeSrv = 33;
constexpr size_t kOpenQuestions = 64;  // at once

bool is_none(int status) { return status == ARES_ENOTFOUND || status == ARES_ENODATA; }

// One look at the source.
class Lookup {
 public:
  Lookup(DnsResolver &resolver, const model::DiscoverySpec &spec)
      : resolver_(resolver), spec_(spec), dns_(std::get<model::DnsSource>(spec.kind)) {}

  asio::awaitable<Result<Said>> run() {
    Answer answer;
    if (dns_.record == model::DnsRecord::kSrv) {
      co_await find_targets();
      answer = target_backends(targets_, addresses_, spec_.weight);
    } else {
      if (dns_.record != model::DnsRecord::kAaaa) ask_address(dns_.name, kTypeA);
      if (dns_.record != model::DnsRecord::kA) ask_address(dns_.name, kTypeAaaa);
      co_await resolver_.finish();
      answer = address_backends(addresses_[dns_.name], spec_.weight);
    }
    if (!failure_.empty()) co_return Error{failure_};
    // So much the operator allows, whatever the records say.
    const auto time = std::clamp(std::chrono::milliseconds(ttl_.value_or(std::chrono::seconds(0))),
                                 spec_.interval, dns_.max_interval);
    co_return Said{std::move(answer), time};
  }

 private:
  asio::awaitable<void> find_targets() {
    resolver_.ask(dns_.name, kTypeSrv, [this](int status, const std::string &message) {
      targets_ = records_of(dns_.name, status, message).targets;
    });
    co_await resolver_.finish();
    std::set<std::string> names;
    for (const DnsTarget &target : targets_) {
      if (!target.name.empty()) names.insert(target.name);
    }
    for (const std::string &name : names) {
      waiting_.push_back({name, kTypeA});
      waiting_.push_back({name, kTypeAaaa});
    }
    // An answer may come at once, and be a failure, which ends the asking.
    while (failure_.empty() && open_ < kOpenQuestions && !waiting_.empty()) ask_next();
    co_await resolver_.finish();
  }

  void ask_next() {
    if (waiting_.empty() || !failure_.empty()) return;
    const auto [name, type] = waiting_.back();
    waiting_.pop_back();
    ask_address(name, type);
  }

  void ask_address(const std::string &name, int type) {
    ++open_;
    resolver_.ask(name, type, [this, name](int status, const std::string &message) {
      --open_;
      const DnsRecords records = records_of(name, status, message);
      std::vector<Address> &addresses = addresses_[name];
      addresses.insert(addresses.end(), records.addresses.begin(), records.addresses.end());
      ask_next();
    });
  }

  // A name that does not exist, or has no such record, has no records. Any other failure is one of the whole:
  // half of the addresses are no answer.
  DnsRecords records_of(const std::string &name, int status, const std::string &message) {
    if (is_none(status)) return {};
    if (status != ARES_SUCCESS) {
      note_failure(failure_text(name, status));
      return {};
    }
    Result<DnsRecords> records = parse_dns_answer(message);
    if (!records.ok()) {
      note_failure(fmt::format("{}: {}", name, records.error().message));
      return {};
    }
    if (!records.value().addresses.empty() || !records.value().targets.empty())
      ttl_ = std::min(ttl_.value_or(records.value().ttl), records.value().ttl);
    return std::move(records).value();
  }

  void note_failure(std::string text) {
    if (failure_.empty()) failure_ = std::move(text);
  }

  std::string failure_text(const std::string &name, int status) const {
    const std::string servers = resolver_.servers_text();
    const char *server = servers.find(',') == servers.npos ? "server" : "servers";
    switch (status) {
      case ARES_ETIMEOUT:
      case ARES_ECANCELLED:
        return fmt::format("{} {} did not answer the question for {} within {}", server, servers, name,
                           duration_text(spec_.timeout));
      case ARES_ECONNREFUSED:  // c-ares says so, too, when each of them answered that it would not, or could
                               // not
        return fmt::format(
            "{} {} cannot be reached, or answered the question for {} with REFUSED, SERVFAIL or NOTIMP",
            server, servers, name);
      default:
        return fmt::format("{} {}, asked for {}: {}", server, servers, name, ares_strerror(status));
    }
  }

  DnsResolver &resolver_;
  const model::DiscoverySpec &spec_;
  const model::DnsSource &dns_;
  std::vector<DnsTarget> targets_;
  std::map<std::string, std::vector<Address>> addresses_;  // by name
  std::vector<std::pair<std::string, int>> waiting_;       // questions
  size_t open_ = 0;
  std::optional<std::chrono::seconds> ttl_;
  std::string failure_;
};

class DnsDiscovery : public Source {
 public:
  DnsDiscovery(SourceContext &context, const model::DiscoverySpec &spec) : context_(context), spec_(spec) {}

  asio::awaitable<Result<Said>> next() override {
    // Anew each time: the system's servers may be others by now.
    auto made =
        DnsResolver::create(context_.io, std::get<model::DnsSource>(spec_.kind).servers, spec_.timeout);
    if (!made.ok()) co_return made.error();
    const std::unique_ptr<DnsResolver> resolver = std::move(made).value();
    Lookup lookup(*resolver, spec_);
    resolver_ = resolver.get();
    Result<Said> said = co_await lookup.run();
    resolver_ = nullptr;
    co_return said;
  }

  void stop() override {
    if (resolver_ != nullptr) resolver_->stop();
  }

 private:
  SourceContext &context_;
  const model::DiscoverySpec &spec_;
  DnsResolver *resolver_ = nullptr;  // while it runs
};

}  // namespace

std::unique_ptr<Source> make_dns_source(SourceContext &context, const model::DiscoverySpec &spec) {
  return std::make_unique<DnsDiscovery>(context, spec);
}

}  // namespace sluice
