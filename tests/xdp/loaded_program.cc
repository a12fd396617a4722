#include "tests/xdp/loaded_program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include <bpf/bpf.h>

namespace sluice {
namespace {

constexpr size_t kMostBytesOut = 16384;

template <typename T>
T value_of(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

ForwardingProgramOptions completed(ForwardingProgramOptions options, XdpClock clock) {
  options.clock = clock;
  options.connections_bytes =
      kConnectionHeaderSize + uint64_t{options.table_count} *
                                  (uint64_t{options.ipv4_buckets} + options.ipv6_buckets) *
                                  sizeof(ConnectionBucket);
  return options;
}

/// The first record whose count is not the noted one; the count is noted.
template <typename Records>
std::optional<size_t> risen(const Records &records, std::vector<uint64_t> *noted) {
  for (size_t i = 0; i < noted->size(); i++) {
    if (records[i].packets == (*noted)[i]) continue;
    (*noted)[i] = records[i].packets;
    return i;
  }
  return std::nullopt;
}

}  // namespace

BoundToCpu::BoundToCpu() : before_() {
  if (::sched_getaffinity(0, sizeof(before_), &before_) != 0)
    throw std::runtime_error("sched_getaffinity: " + std::string(std::strerror(errno)));
}

BoundToCpu::~BoundToCpu() { (void)::sched_setaffinity(0, sizeof(before_), &before_); }

void BoundToCpu::bind(uint32_t cpu) {
  if (cpu_ == cpu && thread_ == std::this_thread::get_id()) return;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  if (::sched_setaffinity(0, sizeof(only), &only) != 0)
    throw std::runtime_error("CPU " + std::to_string(cpu) +
                             ": a worker's packets run there, but: " + std::strerror(errno));
  cpu_ = cpu;
  thread_ = std::this_thread::get_id();
}

ForwardingTables forwarding_tables(const SnapshotBuilder &builder, std::span<const Egress> egress) {
  return {value_of(MappedSnapshot::from_bytes(builder.build())),
          std::vector<Egress>(egress.begin(), egress.end())};
}

LoadedProgram::LoadedProgram(ForwardingProgramOptions options, XdpClock clock)
    : program_(value_of(ForwardingProgram::load(completed(std::move(options), clock)))),
      connections_(value_of(program_->connections_memory())),
      counted_(program_->options().worker_count),
      buffer_(kMostBytesOut) {
  const CounterRegionShape shape = {.worker_count = program_->options().worker_count,
                                    .first_worker_part = FirstWorkerPart::kAfterOneStride};
  counters_.emplace(
      value_of(CounterRegion::over(value_of(program_->counters_memory()), shape, CounterContents::kNew)));
}

void LoadedProgram::install(const ForwardingTables &tables) {
  value_of(program_->install(tables));
  known_backends_ = std::max(known_backends_, tables.snapshot->backends().size());
  known_services_ = std::max(known_services_, tables.snapshot->services().size());
  for (uint32_t worker = 0; worker < counted_.size(); worker++) note_counts(worker);
}

void LoadedProgram::note_counts(uint32_t worker) {
  Counted &noted = counted_[worker];
  noted = {};
  for (size_t i = 0; i < known_backends_; i++)
    noted.backends.push_back(counters_->backends(worker)[i].packets);
  for (size_t i = 0; i < known_services_; i++)
    noted.services.push_back(counters_->services(worker)[i].packets);
}

void LoadedProgram::set_time(uint32_t now_s) {
  for (uint32_t i = 0; i < program_->options().worker_count; i++) worker(i).now_s = now_s;
}

XdpOutcome LoadedProgram::run(uint32_t worker, std::span<const uint8_t> frame) {
  if (frame.size() < kShortestFrame)
    throw std::runtime_error("a frame of " + std::to_string(frame.size()) + " bytes cannot be run");
  cpu_.bind(worker);
  const WorkerCounters before = counters_->worker(worker);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = buffer_.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(buffer_.size()), .repeat = 1);
  const int error = bpf_prog_test_run_opts(program_->program_fd(), &options);
  if (error != 0)
    throw std::runtime_error("BPF_PROG_TEST_RUN on " + std::to_string(frame.size()) +
                             " bytes: " + std::strerror(-error));
  XdpOutcome outcome;
  outcome.action = options.retval;
  outcome.out.assign(buffer_.begin(), buffer_.begin() + options.data_size_out);
  read_outcome(worker, before, &outcome);
  return outcome;
}

void LoadedProgram::read_outcome(uint32_t worker, const WorkerCounters &before, XdpOutcome *outcome) {
  const WorkerCounters &after = counters_->worker(worker);
  uint64_t rises = 0;
  for (uint32_t verdict = 0; verdict < kVerdictCapacity; verdict++) {
    const uint64_t rise = after.verdict_packets[verdict] - before.verdict_packets[verdict];
    if (rise != 0) outcome->verdict = verdict;
    rises += rise;
  }
  if (rises != 1) throw std::runtime_error(std::to_string(rises) + " verdicts were counted on one frame");
  Counted &noted = counted_[worker];
  const std::optional<size_t> backend = risen(counters_->backends(worker), &noted.backends);
  const std::optional<size_t> service = risen(counters_->services(worker), &noted.services);
  if (backend.has_value() != service.has_value())
    throw std::runtime_error("a frame was counted for one of backend and service only");
  outcome->backend = static_cast<uint16_t>(backend.value_or(0));
  outcome->service = static_cast<uint32_t>(service.value_or(0));
}

void LoadedProgram::sweep(uint32_t worker, uint32_t runs) {
  cpu_.bind(worker);
  value_of(program_->sweep(runs));
}

std::span<ConnectionBucket> LoadedProgram::table(uint32_t table) const {
  const size_t size = size_t{program_->options().ipv4_buckets} + program_->options().ipv6_buckets;
  auto *first = reinterpret_cast<ConnectionBucket *>(connections_.mapping.data() + kConnectionHeaderSize);
  return {first + table * size, size};
}

}  // namespace sluice
