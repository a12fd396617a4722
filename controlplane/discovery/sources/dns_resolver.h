// c-ares on an Asio loop.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_SOURCES_DNS_RESOLVER_H
#define SLUICE_CONTROLPLANE_DISCOVERY_SOURCES_DNS_RESOLVER_H

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/discovery/wakeup.h"
#include "controlplane/model/discovery.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// One round of questions, by UDP, or by TCP where an answer is longer. Used on its loop's thread only.
class DnsResolver {
 public:
  /// `status` is c-ares's; `message` is the answer as it came, also of a name that does not exist.
  using Answered = std::function<void(int status, std::string message)>;

  /// Asks `servers`, or the system's if there are none. Each server is asked twice within `timeout`.
  static Result<std::unique_ptr<DnsResolver>> create(boost::asio::io_context &io,
                                                     const std::vector<model::DnsServer> &servers,
                                                     std::chrono::milliseconds timeout);
  ~DnsResolver();
  DnsResolver(const DnsResolver &) = delete;
  DnsResolver &operator=(const DnsResolver &) = delete;

  /// Puts a question of class IN; `answered` is called within finish().
  void ask(const std::string &name, int record_type, Answered answered);

  /// Until every question is answered. What is not when `timeout` has passed ends with ARES_ECANCELLED.
  boost::asio::awaitable<void> finish();

  /// Makes finish() end soon.
  void stop();

  /// Those that are asked, in words: "10.0.0.1, [2001:db8::1]:5353".
  std::string servers_text() const;

 private:
  struct Impl;
  explicit DnsResolver(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
