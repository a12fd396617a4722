// The XDP engine: the loaded program, its interfaces and links, behind the server's Engine.
#ifndef SLUICE_XDP_ENGINE_H
#define SLUICE_XDP_ENGINE_H

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/server/connection_region.h"
#include "dataplane/server/engine.h"
#include "dataplane/server/port_options.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/xdp/attachment.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/memory.h"
#include "dataplane/xdp/pins.h"
#include "dataplane/xdp/port_attachment.h"
#include "dataplane/xdp/preflight.h"
#include "dataplane/xdp/sweeper.h"

namespace sluice {

/// What the engine runs with; all of it outlives the engine.
struct XdpEngineSetup {
  const Pins *pins;
  const CounterRegion *counters;
  const ConnectionRegion *connections;
  std::function<void()> bring_over;  // XdpMemory's
};

/// Created with its program loaded and not attached, so that a snapshot can be installed before the first
/// packet runs through it.
class XdpEngine : public Engine {
 public:
  XdpEngine(XdpPreflight preflight, XdpModeChoice mode, std::unique_ptr<ForwardingProgram> program,
            const XdpEngineSetup &setup);
  XdpEngine(const XdpEngine &) = delete;
  XdpEngine &operator=(const XdpEngine &) = delete;
  /// The programs stay on the interfaces if start() succeeded.
  ~XdpEngine() override;

  /// Puts the program in the place of those that a process before this one left pinned, attaches it where
  /// there is none, pins everything, and starts to sweep; what is pinned of ports that are no more is
  /// detached. Without tables (install()) what forwards goes on instead, until the first installation.
  /// Errors: as PortAttachment's and Pins::put; everything is as before then.
  Status start();

  std::string name() const override { return "xdp"; }
  std::vector<EnginePort> ports() const override;
  Status make_room(const std::shared_ptr<const MappedSnapshot> &snapshot) override;
  Status install(std::shared_ptr<const ForwardingTables> tables) override;
  void merge_active_connections() override;
  /// A port whose interface has gone is down until one of its name is there again; then that gets the
  /// addresses and the program. Each port by itself: what is wrong with one keeps no other from forwarding.
  /// With kAtAll also what somebody has taken off is attached again. All of it is logged and in the status.
  Links follow_links(Look look) override;
  nlohmann::json status() const override;

  const XdpPreflight &preflight() const { return preflight_; }
  /// Whether it has still to do with programs that are not its own: of a process before it, whose place it
  /// takes once it has tables, or under libxdp's dispatcher.
  bool looks_up_programs() const;
  /// What `worker` was last told of the other workers' active connections.
  uint32_t others_active(uint32_t worker, uint16_t backend) const {
    return program_->others_active(worker)[backend];
  }

 private:
  /// An interface that is back and could not be attached: not tried again as long as it is the same.
  struct Refused {
    uint32_t ifindex = 0;  // 0: none
    uint16_t mtu = 0;      // bytes
  };
  struct Link {
    std::optional<PortAttachment> attachment;
    std::optional<EarlierPort> earlier;  // what was on the interface before, while it is taken over
    bool is_attached() const { return attachment.has_value(); }
    enum class Program { kThis, kEarlier } program = Program::kThis;
    Refused refused;
    std::string unpinned;  // why what is attached ends with this process; empty: it is pinned
  };

  /// What is pinned, and is no port's any more.
  struct Other {
    std::string name;
    PortAttachment attachment;
  };

  void find_earlier();
  Link *link_on(const EarlierPort &earlier);
  bool is_attached_port(const std::string &name) const;
  void keep_wanted();
  Status take_over();
  Status attach_port(size_t port, const ForwardingProgram &program);
  Status attach_new_ports();
  Status attach_in_another_way();
  void bring_back(EarlierPort &earlier) const;
  void go_back(const UniqueFd &connections, const UniqueFd &counters);
  void forget_others();
  Status pin_all();
  Status pin_port(size_t port);
  std::vector<uint32_t> port_ifindexes() const;
  void set_down(size_t port, const std::string &cause);
  bool is_started() const { return sweeper_ != nullptr; }
  void unlink(size_t port);
  void lose_port(size_t port);
  void follow_mtu(size_t port);
  bool is_back(size_t port, Look look);
  void refuse(size_t port, const std::string &cause);
  void pin_or_tell(size_t port);
  Status attach_severed(size_t port, const ForwardingProgram &program);
  void drop_severed(size_t port, const Error &error);
  void keep_attached(size_t port);
  void look_at_ports(Look look);
  Status load_for_interfaces();
  std::string problem() const;
  void warn_of_mixed_modes();
  Result<std::unique_ptr<ForwardingProgram>> load_anew() const;
  void attach_again(const std::vector<size_t> &back);
  Status pin_tail_calls(const ForwardingProgram &program);
  Status move_link(size_t port, const ForwardingProgram &program);
  Status move_links(const ForwardingProgram &program);
  Status swap_in_larger();
  Status sweep();

  XdpPreflight preflight_;
  XdpModeChoice mode_;
  XdpEngineSetup setup_;
  mutable std::mutex program_mutex_;  // the sweeper reads program_, the server's thread swaps it
  std::unique_ptr<ForwardingProgram> program_;
  std::unique_ptr<ForwardingProgram> larger_;       // to be swapped in by the next install; null: not needed
  std::vector<Link> links_;                         // by port, once started
  std::vector<Other> others_;                       // while start() takes over
  std::vector<EnginePort> told_ports_;              // as the server knows them
  std::shared_ptr<const ForwardingTables> tables_;  // in force; null: none yet
  std::vector<uint32_t> active_sum_;                // scratch of merge_active_connections
  bool waits_for_tables_ = false;                   // what is there goes on until there are tables
  size_t backends_ = 0;                             // in the snapshot in force
  std::string problem_;                             // of the last installation; empty: none
  std::unique_ptr<Sweeper> sweeper_;
};

}  // namespace sluice

#endif
