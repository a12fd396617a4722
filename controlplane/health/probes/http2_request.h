// One request over HTTP/2 by libcurl: of HTTP checks that want it, and of gRPC checks.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_HTTP2_REQUEST_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_HTTP2_REQUEST_H

#include <string>
#include <utility>
#include <vector>

#include "controlplane/health/probes/probe.h"

namespace sluice {

/// One request, without proxy, redirects, name lookups, and on a connection of its own. `spec` must outlive
/// it.
class Http2Request {
 public:
  struct Target {
    const model::TlsOptions *tls = nullptr;  // nullptr: without
    std::string method;
    std::string path;
    std::string host;  // empty: the server name, or the address
    std::vector<std::pair<std::string, std::string>> headers;
  };

  Http2Request(ProbeContext &context, const CheckSpec &spec, Target target);
  ~Http2Request();
  Http2Request(const Http2Request &) = delete;
  Http2Request &operator=(const Http2Request &) = delete;

  /// Sent with the request.
  void set_body(std::string body);

  /// Until the answer's end, or until its body is longer than a check reads. Nothing: there is an answer.
  ProbeStep perform();

  long status() const { return status_; }
  const std::string &body() const { return body_; }  // up to kMaxAnswerBytes
  /// Of the trailer, or else of the header, the name in lower case; nullptr: not there.
  const std::string *header(std::string_view name) const;

 private:
  static size_t on_body(const char *data, size_t size, size_t count, void *user);
  static size_t on_header(const char *data, size_t size, size_t count, void *user);
  static int on_socket(void *user, curl_socket_t socket, curlsocktype purpose);
  static CURLcode on_tls_context(CURL *easy, void *context, void *user);
  void set_options();
  void set_http_options();
  void set_tls_options();
  Ended judge(CURLcode code);

  ProbeContext &context_;
  const CheckSpec &spec_;
  Target target_;
  std::string request_body_;
  bool has_body_ = false;
  CurlHandle handle_;
  curl_slist *header_list_ = nullptr;
  curl_slist *connect_to_ = nullptr;
  std::shared_ptr<boost::asio::ssl::context> tls_settings_;
  TlsExpectation expectation_;
  bool tls_begun_ = false;
  std::string error_text_;
  std::string body_;
  std::vector<std::pair<std::string, std::string>> headers_;
  long status_ = 0;
  bool body_cut_ = false;
};

}  // namespace sluice

#endif
