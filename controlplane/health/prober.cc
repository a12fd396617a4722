#include "controlplane/health/prober.h"

#include <algorithm>
#include <exception>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "controlplane/health/probes/probe.h"

namespace sluice {

namespace asio = boost::asio;

namespace {

constexpr uint64_t kReservedDescriptors = 512;  // snapshot, sockets, API connections, log
constexpr uint64_t kMinConcurrentChecks = 16;
constexpr uint64_t kMaxConcurrentChecks = 16384;
constexpr size_t kCommandsAtOnce = 32;  // each is some processes
constexpr int kServedAtOnce = 256;      // then the caller's clock is looked at again

// `spec` lives in the coroutine; `begun` outlives it.
ProbeRun run_check(ProbeContext &context, CheckSpec spec, const Prober::Begun &begun, uint64_t token) {
  std::optional<Turns::Turn> turn;
  if (std::holds_alternative<model::ExecCheck>(spec.health.kind)) {
    turn.emplace(co_await context.commands.take(context.io));
  }
  if (begun && !begun(token)) co_return not_carried_out("nobody wants to know any more");
  if (std::holds_alternative<model::NoCheck>(spec.health.kind)) co_return healthy("not checked");
  if (!spec.rests.empty()) co_return not_carried_out(spec.rests);
  ProbeRun run = std::visit(
      [&](const auto &check) -> ProbeRun {
        if constexpr (std::is_same_v<std::decay_t<decltype(check)>, model::NoCheck>) {
          return ProbeRun();
        } else {
          return run_probe(context, spec, check);
        }
      },
      spec.health.kind);
  co_return co_await std::move(run);
}

}  // namespace

// The loop's end unwinds the coroutines of checks that run: after `curl`, before `tls` and `commands`.
struct Prober::Impl {
  Done done;
  Begun begun;
  TlsContexts tls;
  Turns commands{kCommandsAtOnce};
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::unique_ptr<CurlTransfers> curl;
  std::unique_ptr<ProbeContext> context;
  size_t running = 0;
};

Prober::Prober(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Prober::~Prober() = default;

Result<std::unique_ptr<Prober>> Prober::create(Done done, Begun begun) {
  auto impl = std::make_unique<Impl>();
  impl->done = std::move(done);
  impl->begun = std::move(begun);
  Result<std::unique_ptr<CurlTransfers>> curl = CurlTransfers::create(impl->io);
  if (!curl.ok()) return curl.error();
  impl->curl = std::move(curl).value();
  impl->context =
      std::make_unique<ProbeContext>(ProbeContext{impl->io, impl->tls, *impl->curl, impl->commands, {}});
  return std::unique_ptr<Prober>(new Prober(std::move(impl)));
}

void Prober::start(uint64_t token, const CheckSpec &spec) {
  impl_->running++;
  asio::co_spawn(impl_->io, run_check(*impl_->context, spec, impl_->begun, token),
                 [impl = impl_.get(), token](const std::exception_ptr &failed, const CheckResult &result) {
                   impl->running--;
                   // What throws here is the allocator.
                   impl->done(token, failed ? not_carried_out("out of memory on this host") : result);
                 });
}

void Prober::serve_until(Clock::time_point deadline) {
  impl_->io.run_one_until(deadline);  // of a deadline that has passed it runs nothing
  for (int i = 0; i < kServedAtOnce; i++) {
    if (impl_->io.poll_one() == 0) return;
  }
}

void Prober::wake() {
  asio::post(impl_->io, [] {});
}

size_t Prober::running() const { return impl_->running - impl_->commands.waiting(); }

size_t Prober::waiting() const { return impl_->commands.waiting(); }

size_t concurrent_check_limit(uint64_t descriptors) {
  const uint64_t left = descriptors > kReservedDescriptors ? descriptors - kReservedDescriptors : 0;
  return static_cast<size_t>(std::clamp(left, kMinConcurrentChecks, kMaxConcurrentChecks));
}

}  // namespace sluice
