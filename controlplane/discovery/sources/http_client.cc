#include "controlplane/discovery/sources/http_client.h"

#include <algorithm>
#include <array>
#include <system_error>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"

namespace sluice {

namespace asio = boost::asio;

namespace {

constexpr size_t kMaxBodyBytes = 16u << 20;
constexpr long kKeepaliveS = 10;

// Host of "https://HOST:PORT", without brackets.
std::string host_of(const std::string &endpoint) {
  const size_t begin = endpoint.find("://") + 3;
  std::string host = endpoint.substr(begin, endpoint.rfind(':') - begin);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return host;
}

// One transfer: what libcurl's callbacks need of it.
struct Transfer {
  CurlHandle handle;
  const HttpQuestion &question;
  HttpAnswer answer;
  curl_slist *headers = nullptr;
  std::array<char, CURL_ERROR_SIZE> error_text{};
  bool too_long = false;
  std::shared_ptr<asio::ssl::context> tls_settings;
  model::TlsOptions tls;
  TlsExpectation expectation;
  Address address{};  // of an endpoint without a name

  explicit Transfer(const HttpQuestion &asked) : question(asked) {}
  ~Transfer() { curl_slist_free_all(headers); }
  Transfer(const Transfer &) = delete;
  Transfer &operator=(const Transfer &) = delete;
};

size_t on_body(const char *data, size_t size, size_t count, void *user) {
  auto *transfer = static_cast<Transfer *>(user);
  const size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(transfer->handle.get(), CURLINFO_RESPONSE_CODE, &status);
  if (transfer->question.on_data && status == 200) {
    return transfer->question.on_data({data, bytes}) ? bytes : 0;
  }
  transfer->too_long = transfer->answer.body.size() + bytes > kMaxBodyBytes;
  if (transfer->too_long) return 0;
  transfer->answer.body.append(data, bytes);
  return bytes;
}

size_t on_header(const char *data, size_t size, size_t count, void *user) {
  auto *transfer = static_cast<Transfer *>(user);
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (colon == line.npos) return size * count;
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  value = value.substr(0, value.find_last_not_of(" \t\r\n") + 1);
  transfer->answer.headers[std::move(name)] = value;
  return size * count;
}

CURLcode on_tls_context(CURL * /*easy*/, void *context, void *user) {
  auto *transfer = static_cast<Transfer *>(user);
  expect_certificate(static_cast<SSL_CTX *>(context), transfer->tls_settings->native_handle(),
                     &transfer->expectation, transfer->address);
  return CURLE_OK;
}

void set_options(Transfer *transfer, const std::string &endpoint) {
  CURL *easy = transfer->handle.get();
  const HttpQuestion &question = transfer->question;
  curl_easy_setopt(easy, CURLOPT_URL, (endpoint + question.path).c_str());
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "sluice-discovery");
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(question.timeout.count()));
  if (question.connect_timeout.count() > 0)
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(question.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepaliveS);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepaliveS);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error_text.data());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
  if (question.body) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(question.body->size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, question.body->data());
    transfer->headers = curl_slist_append(transfer->headers, "Content-Type: application/json");
  }
  for (const std::string &header : question.headers)
    transfer->headers = curl_slist_append(transfer->headers, header.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a resolver that hangs is not waited for
  // libcurl does not know what its connections' certificates were judged by: none is used for another
  // question.
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
}

// The certificate is judged by on_tls_context's settings, as that of a health check is, and not by libcurl.
void set_tls_options(Transfer *transfer, const std::string &endpoint) {
  const std::string host = host_of(endpoint);
  const auto address = parse_address(host);
  if (address) {
    transfer->address = *address;
  } else if (transfer->tls.server_name.empty()) {
    transfer->tls.server_name = host;
  }
  transfer->expectation.options = &transfer->tls;
  CURL *easy = transfer->handle.get();
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, transfer);
}

std::string failure_text(const Transfer &transfer, CURLcode code) {
  if (!transfer.expectation.failure.empty()) return transfer.expectation.failure;
  if (transfer.too_long) return fmt::format("answered over {} MiB", kMaxBodyBytes >> 20);
  if (code == CURLE_OPERATION_TIMEDOUT) return "no answer within " + duration_text(transfer.question.timeout);
  if (code == CURLE_COULDNT_CONNECT) {
    long error = 0;
    curl_easy_getinfo(transfer.handle.get(), CURLINFO_OS_ERRNO, &error);
    if (error != 0) return std::generic_category().message(static_cast<int>(error));
  }
  return transfer.error_text[0] != '\0' ? transfer.error_text.data() : curl_easy_strerror(code);
}

}  // namespace

void HttpClient::stop() {
  stopped_ = true;
  if (running_ != nullptr) context_.curl.cancel(running_);
}

asio::awaitable<Result<HttpAnswer>> HttpClient::ask_endpoint(const HttpQuestion &question,
                                                             const std::string &endpoint) {
  Transfer transfer(question);
  if (transfer.handle.get() == nullptr) co_return Error{"out of memory on this host"};
  set_options(&transfer, endpoint);
  if (endpoint.starts_with("https://")) {
    transfer.tls = tls_.value_or(model::TlsOptions{});
    auto settings = context_.tls.get(transfer.tls);
    if (!settings.ok()) co_return settings.error();
    transfer.tls_settings = std::move(settings).value();
    set_tls_options(&transfer, endpoint);
  }
  running_ = transfer.handle.get();
  const CURLcode code = co_await context_.curl.perform(transfer.handle.get());
  running_ = nullptr;
  if (code != CURLE_OK) co_return Error{failure_text(transfer, code)};
  curl_easy_getinfo(transfer.handle.get(), CURLINFO_RESPONSE_CODE, &transfer.answer.status);
  if (transfer.answer.status >= 500) {
    co_return Error{fmt::format("HTTP status {}", transfer.answer.status)};
  }
  co_return std::move(transfer.answer);
}

asio::awaitable<Result<HttpAnswer>> HttpClient::ask(const HttpQuestion &question) {
  std::string failures;
  const size_t most = std::min(endpoints_.size(), question.most_endpoints);
  for (size_t tries = 0; tries < most && !stopped_; ++tries) {
    Result<HttpAnswer> answer = co_await ask_endpoint(question, endpoint());
    if (answer.ok()) co_return answer;
    failures += fmt::format("{}{}: {}", failures.empty() ? "" : "; ", endpoint(), answer.error().message);
    current_ = (current_ + 1) % endpoints_.size();
  }
  co_return Error{failures};
}

}  // namespace sluice
