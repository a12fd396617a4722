// The loaded XDP program (bpf/sluice.bpf.c) with its maps: what the engine's packets run, filled with the
// tables of one generation after the other. Knows nothing of interfaces.
#ifndef SLUICE_XDP_FORWARDING_PROGRAM_H
#define SLUICE_XDP_FORWARDING_PROGRAM_H

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bpf/layout.h"
#include "dataplane/abi/result.h"
#include "dataplane/server/engine.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

struct sluice_program;  // dataplane/xdp/skeleton.h

/// Whether frames may lie in several buffers: for MTUs that do not fit a page.
enum class FrameBuffers { kOne, kSeveral };

struct ForwardingProgramOptions {
  uint32_t worker_count = 1;  // CPUs 0 to worker_count - 1
  uint32_t table_count = 1;   // connection tables, at least worker_count
  uint32_t ipv4_buckets = 64;
  uint32_t ipv6_buckets = 64;
  uint64_t connections_bytes = 0;  // of the whole region (ConnectionRegionHeader::total_size)
  uint64_t slots = 0;              // room for at least so many in each generation
  XdpClock clock = kXdpClockBoottime;
  FrameBuffers buffers = FrameBuffers::kOne;
  std::vector<uint32_t> port_ifindexes;  // by port index, at most kXdpMaxPorts; in this network namespace
  // Maps of a program before this one, to go on with; -1: new ones, all zeros.
  int connections_fd = -1;
  int counters_fd = -1;
};

/// Why the kernel does not load the programs: its errno, and what its verifier says (empty: nothing).
std::string why_not_loaded(int error, const std::string &refusal, const ForwardingProgramOptions &options);

/// One set of programs and maps in the kernel. It goes with this object, but for what links or pins hold.
class ForwardingProgram {
 public:
  /// Loads the programs. Errors: what the kernel says, or maps to go on with that do not fit the options.
  [[nodiscard]] static Result<std::unique_ptr<ForwardingProgram>> load(
      const ForwardingProgramOptions &options);

  ForwardingProgram(const ForwardingProgram &) = delete;
  ForwardingProgram &operator=(const ForwardingProgram &) = delete;
  ~ForwardingProgram();

  /// Whether `tables` fit this program's maps; if not, one with more room is to be loaded. An error if no
  /// program can hold them; it names the table.
  [[nodiscard]] Result<bool> has_room_for(const ForwardingTables &tables) const;

  /// Makes `tables` what every packet sees from now on. Copies them: they are not needed any more then.
  /// Errors: no room, or the kernel does not say when the generation of before is out of use.
  [[nodiscard]] Status install(const ForwardingTables &tables);

  /// Returns when no packet is under way any more that was when it was called.
  [[nodiscard]] Status wait_for_readers();

  /// Empties expired entries of the table of the CPU that the calling thread is bound to: `runs` times
  /// kXdpSweepBuckets buckets of each family. Errors: the kernel cannot run a program with softirqs off
  /// (Linux before 5.18).
  [[nodiscard]] Status sweep(uint32_t runs) const;

  /// To attach; also the other two programs, for tests and benches.
  int program_fd() const;
  int miss_program_fd() const;
  int sweep_program_fd() const;
  uint32_t program_id() const;

  /// To pin.
  int connections_fd() const;
  int counters_fd() const;
  int tail_calls_fd() const;

  /// The maps' memory for regions over it, mapped anew with each call.
  [[nodiscard]] Result<SharedMemory> connections_memory() const;
  [[nodiscard]] Result<SharedMemory> counters_memory() const;

  /// What schedulers of `worker` add to its own active connections, by backend identifier.
  std::span<uint32_t> others_active(uint32_t worker) const;

  /// The program's memory for one CPU. Only to be written while no packet runs there.
  XdpWorker &worker(uint32_t worker) const;

  const ForwardingProgramOptions &options() const { return options_; }

  /// Bytes of all maps, connections and counters aside.
  uint64_t table_bytes() const;

 private:
  struct Deleter {
    void operator()(sluice_program *program) const;
  };
  /// Records in use, of what packets look up by an identifier that may be out of date.
  struct Used {
    size_t backends = 0;
  };

  explicit ForwardingProgram(const ForwardingProgramOptions &options) : options_(options) {}

  Status open();
  Status size_maps();
  Status load_and_map();
  Status fill_ports();
  void write_generation(uint32_t generation, const ForwardingTables &tables);

  ForwardingProgramOptions options_;
  std::unique_ptr<sluice_program, Deleter> program_;
  uint32_t slot_lines_ = 0;  // per generation
  Mapping slots_;
  Mapping others_active_;
  UniqueFd barrier_element_;
  Used used_[kXdpGenerations];
};

}  // namespace sluice

#endif
