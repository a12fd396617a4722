#include "controlplane/health/probes/http2_request.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/endpoint.h"
#include "controlplane/health/probes/expected_bytes.h"

namespace sluice {

namespace {

constexpr long kReceiveBufferBytes = 16L * 1024;

// The name in the URL is what SNI and the Host header say; CURLOPT_CONNECT_TO says where it really goes.
std::string url_host(const CheckSpec &spec, const model::TlsOptions *tls) {
  return tls == nullptr || tls->server_name.empty() ? address_literal(spec.address) : tls->server_name;
}

std::string trimmed(std::string_view text) {
  const std::string_view blanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(blanks) - begin + 1));
}

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return text;
}

}  // namespace

Http2Request::Http2Request(ProbeContext &context, const CheckSpec &spec, Target target)
    : context_(context), spec_(spec), target_(std::move(target)), error_text_(CURL_ERROR_SIZE, '\0') {}

Http2Request::~Http2Request() {
  curl_slist_free_all(header_list_);
  curl_slist_free_all(connect_to_);
}

void Http2Request::set_body(std::string body) {
  request_body_ = std::move(body);
  has_body_ = true;
}

size_t Http2Request::on_body(const char *data, size_t size, size_t count, void *user) {
  auto *request = static_cast<Http2Request *>(user);
  const size_t room = kMaxAnswerBytes - request->body_.size();
  request->body_.append(data, std::min(room, size * count));
  if (size * count <= room) return size * count;
  request->body_cut_ = true;
  return 0;  // ends the transfer
}

size_t Http2Request::on_header(const char *data, size_t size, size_t count, void *user) {
  auto *request = static_cast<Http2Request *>(user);
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (colon != std::string_view::npos) {
    request->headers_.emplace_back(lower_case(std::string(line.substr(0, colon))),
                                   trimmed(line.substr(colon + 1)));
  }
  return size * count;
}

CURLcode Http2Request::on_tls_context(CURL * /*easy*/, void *context, void *user) {
  auto *request = static_cast<Http2Request *>(user);
  request->tls_begun_ = true;
  expect_certificate(static_cast<SSL_CTX *>(context), request->tls_settings_->native_handle(),
                     &request->expectation_, request->spec_.address);
  return CURLE_OK;
}

int Http2Request::on_socket(void * /*user*/, curl_socket_t socket, curlsocktype /*purpose*/) {
  free_port_at_once(socket);
  return CURL_SOCKOPT_OK;
}

// Every option that a check depends on.
void Http2Request::set_options() {
  CURL *easy = handle_.get();
  const std::string host = url_host(spec_, target_.tls);
  const std::string url = fmt::format("{}://{}:{}{}", target_.tls == nullptr ? "http" : "https", host,
                                      spec_.l4_port, target_.path);
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  connect_to_ = curl_slist_append(
      nullptr, fmt::format("::{}:{}", address_literal(spec_.address), spec_.l4_port).c_str());
  curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to_);
  if (const auto &source = source_of(spec_)) {
    curl_easy_setopt(easy, CURLOPT_INTERFACE, ("host!" + format_address(*source)).c_str());
    if (const uint16_t port = choose_source_port(context_, spec_); port != 0) {
      curl_easy_setopt(easy, CURLOPT_LOCALPORT, static_cast<long>(port));
      curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
    }
  }
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text_.data());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                   static_cast<long>(std::max<int64_t>(1, spec_.health.timeout.count())));
}

void Http2Request::set_http_options() {
  CURL *easy = handle_.get();
  const long http2 = target_.tls == nullptr ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_2TLS;
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, http2);
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "sluice-health");
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, this);
  if (has_body_) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(request_body_.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request_body_.data());
  }
  if (target_.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, target_.method.c_str());
  if (!target_.host.empty())
    header_list_ = curl_slist_append(header_list_, ("Host: " + target_.host).c_str());
  for (const auto &[name, value] : target_.headers) {
    // libcurl sends a header without a value only when it ends in a semicolon.
    const std::string line = value.empty() ? name + ";" : name + ": " + value;
    header_list_ = curl_slist_append(header_list_, line.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, header_list_);
}

// The certificate is judged by on_tls_context's settings within the handshake, as in every check that speaks
// TLS, and not by libcurl after it.
void Http2Request::set_tls_options() {
  CURL *easy = handle_.get();
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, this);
}

Ended Http2Request::judge(CURLcode code) {
  CURL *easy = handle_.get();
  TransferEnd end;
  end.curl_code = code;
  end.body_cut = body_cut_;
  end.error_text = error_text_.c_str();  // up to its zero
  if (!expectation_.failure.empty()) return unhealthy(expectation_.failure);
  long system_error = 0;
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &system_error);
  end.system_error = static_cast<int>(system_error);
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status_);
  end.http_status = status_;
  curl_off_t connect_time_us = 0;
  curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connect_time_us);
  curl_off_t handshake_time_us = 0;
  curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &handshake_time_us);
  // With TLS, libcurl takes the time of the connection only after the handshake.
  end.connected = connect_time_us > 0 || tls_begun_;
  end.certificate_asked = expectation_.asked_for_certificate;
  end.in_handshake = tls_begun_ && handshake_time_us == 0;
  if (const Ended failed = judge_transfer(spec_, end)) return failed;
  long version = 0;
  curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
  if (version != CURL_HTTP_VERSION_2_0) {
    return unhealthy("the server does not speak HTTP/2");
  }
  return std::nullopt;
}

ProbeStep Http2Request::perform() {
  if (handle_.get() == nullptr) co_return not_carried_out("out of memory on this host");
  if (target_.tls != nullptr) {
    auto settings = context_.tls.get(*target_.tls);
    if (!settings.ok()) co_return not_carried_out(settings.error().message);
    tls_settings_ = std::move(settings).value();
    expectation_.options = target_.tls;
    set_tls_options();
  }
  set_options();
  set_http_options();
  co_return judge(co_await context_.curl.perform(handle_.get()));
}

const std::string *Http2Request::header(std::string_view name) const {
  const auto found = std::find_if(headers_.rbegin(), headers_.rend(),
                                  [name](const auto &header) { return header.first == name; });
  return found == headers_.rend() ? nullptr : &found->second;
}

}  // namespace sluice
