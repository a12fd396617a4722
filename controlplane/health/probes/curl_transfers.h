// libcurl's transfers on an Asio loop.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_CURL_TRANSFERS_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_CURL_TRANSFERS_H

#include <functional>
#include <memory>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <curl/curl.h>

#include "dataplane/abi/result.h"

namespace sluice {

/// Used on its loop's thread only, and destroyed before its loop: who waits for a transfer then is unwound by
/// the loop's end.
class CurlTransfers {
 public:
  /// Fails when the host gives no epoll descriptor.
  static Result<std::unique_ptr<CurlTransfers>> create(boost::asio::io_context &io);
  ~CurlTransfers();
  CurlTransfers(const CurlTransfers &) = delete;
  CurlTransfers &operator=(const CurlTransfers &) = delete;

  /// Carries out the transfer that `easy` has been set up for. Its CURLOPT_TIMEOUT_MS bounds it.
  boost::asio::awaitable<CURLcode> perform(CURL *easy);

  /// Ends a transfer with CURLE_ABORTED_BY_CALLBACK; nothing happens to one that does not run.
  void cancel(CURL *easy);

 private:
  struct Impl;
  explicit CurlTransfers(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A handle of libcurl, given back when this goes.
class CurlHandle {
 public:
  CurlHandle() : easy_(curl_easy_init()) {}
  ~CurlHandle() { curl_easy_cleanup(easy_); }
  CurlHandle(const CurlHandle &) = delete;
  CurlHandle &operator=(const CurlHandle &) = delete;

  CURL *get() const { return easy_; }  // nullptr: out of memory

 private:
  CURL *easy_;
};

}  // namespace sluice

#endif
