#include "tools/sluicectl/client.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <memory>
#include <system_error>

#include <curl/curl.h>

#include "controlplane/api/tokens.h"

namespace sluice::ctl {

namespace {

// A reload of the largest configuration and its publication take seconds, not more.
constexpr long kTimeoutSeconds = 60;

size_t append_body(const char *data, size_t size, size_t count, void *user) {
  static_cast<std::string *>(user)->append(data, size * count);
  return size * count;
}

std::string why_unreachable(CURL *easy, CURLcode code, const char *details) {
  long system_error = 0;
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &system_error);
  if (system_error != 0) return std::generic_category().message(static_cast<int>(system_error));
  return details[0] != '\0' ? details : curl_easy_strerror(code);
}

using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

void set_file(CURL *easy, CURLoption option, const std::string &file) {
  if (!file.empty()) curl_easy_setopt(easy, option, file.c_str());
}

void set_endpoint(CURL *easy, const Endpoint &endpoint) {
  if (endpoint.server.empty()) {
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, endpoint.socket_path.c_str());
    return;
  }
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
  set_file(easy, CURLOPT_CAINFO, endpoint.ca_file);
  set_file(easy, CURLOPT_SSLCERT, endpoint.certificate);
  set_file(easy, CURLOPT_SSLKEY, endpoint.key);
}

Error no_answer(const Endpoint &endpoint, const std::string &why) {
  if (endpoint.server.empty()) {
    return Error{
        "sluiced does not answer on " + endpoint.socket_path + ": " + why +
        "; is it running (systemctl status sluiced), may you use its socket (root, or its group), or does "
        "it have another one (--socket)?"};
  }
  return Error{
      "sluiced does not answer on " + endpoint.server + ": " + why +
      "; is it running, does it listen there (api.listen), is its certificate signed by --ca, and yours "
      "(--certificate, --key) by its client_ca?"};
}

}  // namespace

Result<std::string> read_token(const std::string &file) {
  std::ifstream opened(file);
  std::string line;
  if (!opened.is_open() || !std::getline(opened, line)) return Error{"cannot read a token from " + file};
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
  const std::string header = "Bearer " + line;
  if (!api::parse_bearer(header)) return Error{"the first line of " + file + " is no token"};
  return line;
}

Result<Answer> ask(const Endpoint &endpoint, const std::string &method, const std::string &target,
                   const std::string &body) {
  const Easy easy(curl_easy_init(), curl_easy_cleanup);
  if (easy == nullptr) return Error{"out of memory"};
  Answer answer;
  std::array<char, CURL_ERROR_SIZE> details{};
  const std::string url = (endpoint.server.empty() ? "http://sluiced" : endpoint.server) + target;
  const bool has_body = method == "POST" || method == "PUT" || method == "PATCH";
  curl_slist *headers = nullptr;
  if (has_body) headers = curl_slist_append(headers, "Content-Type: application/yaml");
  if (!endpoint.token.empty())
    headers = curl_slist_append(headers, ("Authorization: Bearer " + endpoint.token).c_str());
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers_owner(headers,
                                                                                  curl_slist_free_all);
  set_endpoint(easy.get(), endpoint);
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT, kTimeoutSeconds);
  curl_easy_setopt(easy.get(), CURLOPT_ERRORBUFFER, details.data());
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, append_body);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &answer.body);
  if (method != "GET") curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  if (has_body) {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body.data());
  }
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) return no_answer(endpoint, why_unreachable(easy.get(), code, details.data()));
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

}  // namespace sluice::ctl
