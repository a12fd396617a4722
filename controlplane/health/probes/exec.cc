// A command in a sandbox, which is to end with exit status 0.
#include <cstring>
#include <string>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/child_process.h"
#include "controlplane/health/probes/command_words.h"
#include "controlplane/health/probes/deadline.h"
#include "controlplane/health/probes/probe.h"
#include "controlplane/health/probes/sandbox.h"

namespace sluice {

namespace {

// All that a command gets.
std::vector<std::string> environment_of(const CheckSpec &spec) {
  std::vector<std::string> environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                          "LC_ALL=C",
                                          "HOME=/tmp",
                                          "SLUICE_ADDRESS=" + format_address(spec.address),
                                          "SLUICE_POOL=" + spec.backend.pool,
                                          "SLUICE_BACKEND=" + spec.backend.name,
                                          fmt::format("SLUICE_TIMEOUT_MS={}", spec.health.timeout.count())};
  if (spec.l4_port != 0) environment.push_back(fmt::format("SLUICE_PORT={}", spec.l4_port));
  return environment;
}

std::string exit_status_text(int status) {
  constexpr int kFirstSignal = 128;
  const char *signal = status > kFirstSignal ? sigabbrev_np(status - kFirstSignal) : nullptr;
  if (signal == nullptr) return fmt::format("exit status {}", status);
  return fmt::format("exit status {} (SIG{})", status, signal);
}

CheckResult judge(int status, const std::string &output) {
  if (const auto why = why_not_executed(status, output))
    return not_carried_out("cannot execute " + first_line(*why));
  const std::string text = with_first_line(exit_status_text(status), output);
  return status == 0 ? healthy(text) : unhealthy(text);
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::ExecCheck &check) {
  const std::vector<std::string> command =
      command_words(check.command,
                    {.address = format_address(spec.address), .l4_port = spec.l4_port, .key = &spec.backend});
  auto started = ChildProcess::start(
      context.io, sandbox_command_line(command, check.readable, spec.health.timeout, sandbox_owner()),
      environment_of(spec), kSandboxReport);
  if (!started.ok()) co_return not_carried_out(started.error().message);
  ChildProcess &process = *started.value();
  const Deadline deadline(context.io, spec.health.timeout, [&process] { process.kill(); });
  co_await process.read_output(kMaxAnswerBytes);
  const bool flooded = process.output().size() > kMaxAnswerBytes;
  if (flooded) process.kill();
  co_await process.wait();
  if (flooded) co_return unhealthy(fmt::format("wrote more than {} KiB", kMaxAnswerBytes / 1024));
  if (deadline.expired()) {
    co_return unhealthy(
        with_first_line("timed out after " + duration_text(spec.health.timeout), process.output()));
  }
  const auto status = sandboxed_exit_status(process.report());
  if (!status) co_return not_carried_out(with_first_line("the sandbox could not be made", process.output()));
  co_return judge(*status, process.output());
}

}  // namespace sluice
