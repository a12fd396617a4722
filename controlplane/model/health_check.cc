#include "controlplane/model/health_check.h"

#include <algorithm>

namespace sluice::model {

namespace {

struct KindName {
  std::string_view operator()(const NoCheck &) const { return "none"; }
  std::string_view operator()(const IcmpCheck &) const { return "icmp"; }
  std::string_view operator()(const TcpCheck &) const { return "tcp"; }
  std::string_view operator()(const TlsCheck &) const { return "tls"; }
  std::string_view operator()(const HttpCheck &check) const { return check.tls ? "https" : "http"; }
  std::string_view operator()(const GrpcCheck &) const { return "grpc"; }
  std::string_view operator()(const WebsocketCheck &) const { return "websocket"; }
  std::string_view operator()(const DnsCheck &) const { return "dns"; }
  std::string_view operator()(const UdpCheck &) const { return "udp"; }
  std::string_view operator()(const QuicCheck &) const { return "quic"; }
  std::string_view operator()(const MqttCheck &) const { return "mqtt"; }
  std::string_view operator()(const ExecCheck &) const { return "exec"; }
};

}  // namespace

std::string_view health_kind_name(const HealthKind &kind) { return std::visit(KindName(), kind); }

bool has_port(const HealthKind &kind) {
  return !std::holds_alternative<NoCheck>(kind) && !std::holds_alternative<IcmpCheck>(kind);
}

bool needs_port(const HealthKind &kind) {
  const auto *exec = std::get_if<ExecCheck>(&kind);
  if (exec == nullptr) return has_port(kind);
  return std::ranges::any_of(exec->command, [](const std::string &argument) {
    return argument.find("{port}") != std::string::npos;
  });
}

Protocol transport_of(const HealthKind &kind) {
  if (const auto *dns = std::get_if<DnsCheck>(&kind))
    return dns->transport == DnsTransport::kTcp ? Protocol::kTcp : Protocol::kUdp;
  const bool udp = std::holds_alternative<UdpCheck>(kind) || std::holds_alternative<QuicCheck>(kind);
  return udp ? Protocol::kUdp : Protocol::kTcp;
}

const TlsOptions *tls_of(const HealthKind &kind) {
  return std::visit(
      [](const auto &check) -> const TlsOptions * {
        if constexpr (std::is_same_v<std::decay_t<decltype(check)>, TlsCheck>) {
          return &check.tls;
        } else if constexpr (requires { check.tls; }) {
          return check.tls ? &*check.tls : nullptr;
        } else {
          return nullptr;
        }
      },
      kind);
}

}  // namespace sluice::model
