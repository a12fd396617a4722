// gRPC's own server and its own health service, for tests/e2e/test_health_checks_http.py. The service
// "orders" serves, "parked" does not. Ends on SIGTERM.
#include <csignal>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

namespace {

struct Options {
  std::vector<std::string> plain;  // "127.0.0.1:50051"
  std::vector<std::string> tls;
  std::string certificate_file;
  std::string key_file;
  std::string client_ca_file;  // empty: no certificate is asked of clients
  bool not_serving = false;
  bool without_health = false;
};

std::string contents(const std::string &file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::shared_ptr<grpc::ServerCredentials> tls_credentials(const Options &options) {
  const bool asks = !options.client_ca_file.empty();
  grpc::SslServerCredentialsOptions tls(asks ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  tls.pem_key_cert_pairs.push_back({contents(options.key_file), contents(options.certificate_file)});
  if (asks) tls.pem_root_certs = contents(options.client_ca_file);
  return grpc::SslServerCredentials(tls);
}

int serve(const Options &options) {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);  // before gRPC's threads are made
  grpc::EnableDefaultHealthCheckService(!options.without_health);
  grpc::CallbackGenericService nothing;  // answers every other call with UNIMPLEMENTED
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(&nothing);
  for (const std::string &address : options.plain) {
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  }
  for (const std::string &address : options.tls) builder.AddListeningPort(address, tls_credentials(options));
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::cerr << "grpc_health_server: cannot start (above is what gRPC said)\n";
    return 1;
  }
  if (auto *health = server->GetHealthCheckService()) {
    health->SetServingStatus("orders", true);
    health->SetServingStatus("parked", false);
    if (options.not_serving) health->SetServingStatus(false);
  }
  int number = 0;
  sigwait(&ending, &number);
  server->Shutdown();
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  Options options;
  CLI::App app("A gRPC server with the standard health service");
  app.add_option("--listen", options.plain, "address and port without TLS; may be repeated");
  app.add_option("--listen-tls", options.tls, "address and port with TLS; may be repeated");
  app.add_option("--certificate", options.certificate_file, "PEM file, with --listen-tls");
  app.add_option("--key", options.key_file, "PEM file, with --listen-tls");
  app.add_option("--client-ca", options.client_ca_file, "clients must have a certificate of this authority");
  app.add_flag("--not-serving", options.not_serving, "every service's status is NOT_SERVING");
  app.add_flag("--without-health", options.without_health, "no health service");
  CLI11_PARSE(app, argc, argv);
  return serve(options);
}
