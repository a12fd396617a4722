#include "controlplane/sluiced/api_service.h"

#include <csignal>
#include <utility>

#include <boost/asio/post.hpp>
#include <pthread.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/api/render.h"
#include "controlplane/api/router.h"

namespace sluice {

namespace {

namespace asio = boost::asio;

Result<api::SocketAccess> socket_access(const model::ApiSpec &spec) {
  api::SocketAccess access{.mode = spec.socket_mode, .group = std::nullopt};
  if (spec.socket_group.empty()) return access;
  access.group = api::find_group(spec.socket_group);
  if (!access.group) {
    return Error{fmt::format("api.socket.group: this host has no group \"{}\"", spec.socket_group)};
  }
  if (geteuid() != 0 && getegid() != *access.group && group_member(*access.group) == 0) {
    return Error{
        fmt::format("api.socket.group: sluiced is no member of group \"{}\", and cannot give it the socket",
                    spec.socket_group)};
  }
  return access;
}

api::Times times_of(const model::ApiLimits &limits) {
  return {.header = limits.header_timeout, .body = limits.body_timeout, .idle = limits.idle_timeout};
}

// One connection fails by what a library throws, not the daemon.
void run(asio::io_context &io) {
  while (!io.stopped()) {
    try {
      io.run();
    } catch (const std::exception &exception) {
      spdlog::error("API: a connection failed: {}", exception.what());
    }
  }
}

}  // namespace

ApiService::ApiService(asio::io_context &control_io, api::Control &control)
    : control_io_(control_io), control_(control) {}

Result<std::unique_ptr<ApiService>> ApiService::start(asio::io_context &control_io, api::Control &control,
                                                      const Options &options, const model::ApiSpec &spec) {
  std::unique_ptr<ApiService> service(new ApiService(control_io, control));
  Result<api::AuditLog> changes = api::AuditLog::open({.path = options.log_directory / "audit.log"});
  if (!changes.ok()) return changes.error();
  Result<api::AuditLog> refusals = api::AuditLog::open({.path = options.log_directory / "audit-refused.log"});
  if (!refusals.ok()) return refusals.error();
  service->gate_.log_to(std::move(changes).value(), std::move(refusals).value());
  if (const Status listening = service->listen(options, spec); !listening.ok()) return listening.error();
  // Signals are the control loop's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  service->thread_ = std::thread([io = &service->io_] { run(*io); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return service;
}

Status ApiService::listen(const Options &options, const model::ApiSpec &spec) {
  const api::Handler handler = [this](api::Request request, api::Reply reply) {
    const bool is_of_host = api::needed(request.method, request.target).reach != api::Reach::kNotTheHost;
    auto answer_it = [this, request = std::move(request), reply = std::move(reply)] {
      answer(request, reply);
    };
    if (is_of_host) return asio::post(control_io_, std::move(answer_it));
    asio::post(beside_, std::move(answer_it));
  };
  const Result<api::SocketAccess> access = socket_access(spec);
  if (!access.ok()) return access.error();
  https_ = std::make_unique<api::HttpsServer>(io_, gate_, handler);
  Result<std::unique_ptr<api::UnixServer>> server = api::UnixServer::listen(
      io_, {.socket_path = options.socket_path, .access = access.value(), .times = times_of(spec.limits)},
      gate_, handler);
  if (!server.ok()) return server.error();
  unix_ = std::move(server).value();
  Result<std::function<void()>> use = prepare(spec);
  if (!use.ok()) return use.error();
  use.value()();
  return Done{};
}

ApiService::~ApiService() {
  beside_.stop();
  beside_.join();
  io_.stop();
  if (thread_.joinable()) thread_.join();
}

// On the control loop; what asks nothing of the host, and changes nothing, beside it.
void ApiService::answer(const api::Request &request, const api::Reply &reply) {
  try {
    if (api::needed(request.method, request.target).reach == api::Reach::kNotTheHost)
      return reply(api::handle(request, control_));
    reply(idempotency_.once(request, std::chrono::steady_clock::now(),
                            [this](const api::Request &asked) { return api::handle(asked, control_); }));
  } catch (const std::exception &exception) {  // of a library below: one request fails, not the daemon
    spdlog::error("API: {} {} failed: {}", request.method, request.target, exception.what());
    reply(api::problem(500, "this request failed inside sluiced; its log says why"));
  }
}

Result<std::function<void()>> ApiService::prepare(const model::ApiSpec &spec) {
  struct Prepared {
    model::ApiSpec spec;
    api::Access access;
    api::TlsContext tls;
    api::SocketAccess socket;
    std::vector<api::BoundAddress> added;
  };
  const auto prepared = std::make_shared<Prepared>();
  prepared->spec = spec;
  Result<api::Access> access = api::Access::make(spec);
  if (!access.ok()) return access.error();
  prepared->access = std::move(access).value();
  const Result<api::SocketAccess> socket = socket_access(spec);
  if (!socket.ok()) return socket.error();
  prepared->socket = socket.value();
  if (!spec.listen.empty()) {
    Result<api::TlsContext> tls = api::make_tls_context(spec);
    if (!tls.ok()) return tls.error();
    prepared->tls = std::move(tls).value();
  }
  Result<std::vector<api::BoundAddress>> added = api::bind_addresses(io_, spec.listen, listens_);
  if (!added.ok()) return added.error();
  prepared->added = std::move(added).value();
  return std::function<void()>([this, prepared] {
    listens_ = prepared->spec.listen;
    asio::post(io_, [this, prepared] {
      // The door before the rules: with the door of before, the new rules could let too many in.
      if (const Status used = unix_->use(prepared->socket); !used.ok()) {
        spdlog::error("{}; who may use the API stays as it was", used.error().message);
      } else {
        gate_.use(std::move(prepared->access), prepared->spec.limits);
      }
      unix_->set_times(times_of(prepared->spec.limits));
      https_->use(prepared->spec, std::move(prepared->tls), std::move(prepared->added));
    });
  });
}

void ApiService::note_change(const std::string &who, const std::string &what, const api::ChangeNote &change) {
  asio::post(io_, [this, who, what, change] { gate_.note_order(who, what, change); });
}

}  // namespace sluice
