// Where a pool's backends are learned from: one kind for each file of sources/.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_SOURCE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_SOURCE_H

#include <chrono>
#include <memory>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "controlplane/discovery/found.h"
#include "controlplane/discovery/wakeup.h"
#include "controlplane/health/probes/curl_transfers.h"
#include "controlplane/health/probes/tls_contexts.h"
#include "controlplane/model/discovery.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// What all sources of one Discoverer share. Lives as long as its loop.
struct SourceContext {
  boost::asio::io_context &io;
  TlsContexts &tls;
  CurlTransfers &curl;
};

/// What a source says, and how long to wait before it is asked again.
struct Said {
  Answer answer;
  std::chrono::milliseconds wait{0};
};

/// Used on the loop's thread only.
class Source {
 public:
  virtual ~Source() = default;

  /// The first time: what the source has now. Later: the same when it may have changed, for which a source
  /// that tells of changes waits here. Errors are in words.
  virtual boost::asio::awaitable<Result<Said>> next() = 0;

  /// Makes next() end soon; it is not called again.
  virtual void stop() = 0;
};

/// One function per kind. `spec` outlives the source, and so does `wake`: raised, it ends the wait before
/// next(), too, for what a source notices meanwhile.
std::unique_ptr<Source> make_file_source(SourceContext &context, const model::DiscoverySpec &spec,
                                         Signal &wake);
std::unique_ptr<Source> make_dns_source(SourceContext &context, const model::DiscoverySpec &spec);
std::unique_ptr<Source> make_etcd_source(SourceContext &context, const model::DiscoverySpec &spec);
std::unique_ptr<Source> make_consul_source(SourceContext &context, const model::DiscoverySpec &spec);

}  // namespace sluice

#endif
