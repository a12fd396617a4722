#include "tools/sluicectl/client.h"

#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include <curl/curl.h>

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

}  // namespace

Result<Answer> ask(const std::string &socket_path, const std::string &method, const std::string &target,
                   const std::string &body) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy(curl_easy_init(), curl_easy_cleanup);
  if (easy == nullptr) return Error{"out of memory"};
  Answer answer;
  std::array<char, CURL_ERROR_SIZE> details{};
  const std::string url = "http://sluiced" + target;
  curl_slist *headers = curl_slist_append(nullptr, "Content-Type: application/yaml");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers_owner(headers,
                                                                                  curl_slist_free_all);
  curl_easy_setopt(easy.get(), CURLOPT_UNIX_SOCKET_PATH, socket_path.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT, kTimeoutSeconds);
  curl_easy_setopt(easy.get(), CURLOPT_ERRORBUFFER, details.data());
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, append_body);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &answer.body);
  if (method != "GET") curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  if (method == "POST" || method == "PUT") {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers);
  }
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) {
    return Error{
        "sluiced does not answer on " + socket_path + ": " +
        why_unreachable(easy.get(), code, details.data()) +
        "; is it running (systemctl status sluiced), may you use its socket (root, or its group), or does "
        "it have another one (--socket)?"};
  }
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

}  // namespace sluice::ctl
