// What every kind of check shares: the loop it runs on, and how its steps end.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_PROBE_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_PROBE_H

#include <optional>
#include <random>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "controlplane/health/check.h"
#include "controlplane/health/probes/curl_transfers.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/tls_contexts.h"
#include "controlplane/health/probes/turns.h"

namespace sluice {

/// What all checks of one Prober share. Lives as long as its loop.
struct ProbeContext {
  boost::asio::io_context &io;
  TlsContexts &tls;
  CurlTransfers &curl;
  Turns &commands;
  std::minstd_rand random;                                         // of source ports
  std::vector<char> scratch = std::vector<char>(kMaxAnswerBytes);  // between two waits, for any check
};

using ProbeRun = boost::asio::awaitable<CheckResult>;

/// How one step of a check went. Nothing: on to the next; otherwise the check has ended so.
using Ended = std::optional<CheckResult>;
using ProbeStep = boost::asio::awaitable<Ended>;

/// One function per kind of check. `spec` outlives the run; `check` is spec.health.kind.
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::TcpCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::TlsCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::HttpCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::GrpcCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::WebsocketCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::IcmpCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::DnsCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::UdpCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::QuicCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::MqttCheck &check);
ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::ExecCheck &check);

/// The address that a check of `spec` comes from, if the operator has chosen one for its family.
const std::optional<Address> &source_of(const CheckSpec &spec);

/// The port that a check comes from; 0: the kernel's choice. Through the data path one of the backend's few,
/// in no order: so the next check is no late part of this one to anybody.
uint16_t choose_source_port(ProbeContext &context, const CheckSpec &spec);

}  // namespace sluice

#endif
