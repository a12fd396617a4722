// Questions by HTTP to one of several endpoints of a source.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_SOURCES_HTTP_CLIENT_H
#define SLUICE_CONTROLPLANE_DISCOVERY_SOURCES_HTTP_CLIENT_H

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/discovery/source.h"

namespace sluice {

struct HttpQuestion {
  std::string path;                  // "/v3/kv/range", with its query
  std::optional<std::string> body;   // POST; nothing: GET
  std::vector<std::string> headers;  // "Name: value"
  std::chrono::milliseconds timeout{0};
  std::chrono::milliseconds connect_timeout{0};  // 0: timeout
  size_t most_endpoints = SIZE_MAX;              // that are tried
  // Gets the answer piece by piece as it comes; false ends it. Without it the answer has a body.
  std::function<bool(std::string_view)> on_data;
};

struct HttpAnswer {
  long status = 0;
  std::string body;
  std::map<std::string, std::string> headers;  // names in lower case
};

/// Used on the loop's thread only. One question at a time.
class HttpClient {
 public:
  /// All outlive it.
  HttpClient(SourceContext &context, const std::vector<std::string> &endpoints,
             const std::optional<model::TlsOptions> &tls)
      : context_(context), endpoints_(endpoints), tls_(tls) {}

  /// By the endpoint that answered last; where one cannot be reached or has a fault of its own (5xx), by the
  /// next. The error tells what became of each.
  boost::asio::awaitable<Result<HttpAnswer>> ask(const HttpQuestion &question);

  /// Ends the question that runs, and every later one.
  void stop();

  /// Asks first where the other one was answered last.
  void begin_at(const HttpClient &other) { current_ = other.current_; }

  /// Which one answered last.
  const std::string &endpoint() const { return endpoints_[current_]; }

 private:
  boost::asio::awaitable<Result<HttpAnswer>> ask_endpoint(const HttpQuestion &question,
                                                          const std::string &endpoint);

  SourceContext &context_;
  const std::vector<std::string> &endpoints_;
  const std::optional<model::TlsOptions> &tls_;
  size_t current_ = 0;
  CURL *running_ = nullptr;
  bool stopped_ = false;
};

}  // namespace sluice

#endif
