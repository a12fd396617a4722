#include "controlplane/compile/compiler.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "controlplane/compile/effective_backends.h"
#include "controlplane/compile/pool_tables.h"
#include "controlplane/compile/port_ranges.h"
#include "controlplane/compile/snapshot_writer.h"
#include "controlplane/compile/vip_table.h"
#include "controlplane/model/pool_timeouts.h"
#include "controlplane/model/prime.h"

namespace sluice {
namespace {

Error without_identifier(const std::string &what, const std::string &name) {
  return Error{what + " \"" + name + "\" has no identifier: the configuration was changed after assign()"};
}

// Makes one snapshot's parts, in the order of its functions.
class Compilation {
 public:
  Compilation(const CompileInput &input, PoolTables *tables) : input_(input), tables_(*tables) {}

  Result<CompiledSnapshot> run() {
    using Step = Status (Compilation::*)();
    for (const Step step :
         {&Compilation::compile_backends, &Compilation::compile_slots, &Compilation::compile_services,
          &Compilation::compile_vips, &Compilation::compile_pins}) {
      if (Status status = (this->*step)(); !status.ok()) return status.error();
    }
    SnapshotHeader header{};
    header.revision = input_.revision;
    header.created_unix_ns = input_.created_unix_ns;
    header.next_vip_number = input_.identifiers.next_vip_number();
    header.next_backend_identifier = input_.identifiers.next_backend_id();
    header.flow_hash_key = input_.flow_hash_key;
    auto bytes = write_snapshot(header, parts_);
    if (!bytes.ok()) return bytes.error();
    return CompiledSnapshot{std::move(bytes).value(), cost_};
  }

 private:
  struct Slots {
    uint32_t first = 0;
    uint32_t count = 0;
  };

  // The loader has checked all of this; a state that came another way must not do harm either.
  static Status check_limits(const model::Pool &pool) {
    if (pool.slots > kMaxSlotsPerTable || !is_prime(pool.slots) || pool.slots < 3) {
      return Error{"pool \"" + pool.name + "\": slots " + std::to_string(pool.slots) +
                   " is not a prime from 3 to " + std::to_string(int{kMaxSlotsPerTable})};
    }
    for (const model::BackendSpec &backend : pool.backends) {
      if (backend.weight <= kMaxWeight) continue;
      return Error{"backend \"" + pool.name + "/" + backend.name + "\": weight " +
                   std::to_string(backend.weight) + " is more than " + std::to_string(int{kMaxWeight})};
    }
    return Done{};
  }

  static Status check_limits(const model::Service &service) {
    const model::Timeouts &timeouts = service.timeouts;
    for (const auto timeout : {timeouts.embryonic, timeouts.established, timeouts.closing, timeouts.udp}) {
      if (timeout.count() >= 1 && timeout.count() <= SLUICE_MAX_TIMEOUT_S) continue;
      return Error{"service \"" + service.name + "\": a timeout of " + std::to_string(timeout.count()) +
                   " s is not from 1 to " + std::to_string(SLUICE_MAX_TIMEOUT_S)};
    }
    return Done{};
  }

  static uint16_t seconds(std::chrono::seconds timeout) { return static_cast<uint16_t>(timeout.count()); }

  template <typename Record>
  static void set_timeouts(Record *record, const model::Timeouts &timeouts) {
    record->embryonic_timeout_s = seconds(timeouts.embryonic);
    record->established_timeout_s = seconds(timeouts.established);
    record->closing_timeout_s = seconds(timeouts.closing);
    record->udp_timeout_s = seconds(timeouts.udp);
  }

  model::Timeouts pool_timeouts(const std::string &pool) const {
    const auto found = timeouts_.find(pool);
    return found == timeouts_.end() ? model::Timeouts{} : found->second;
  }

  Backend &backend_record(uint16_t id) {
    if (parts_.backends.size() <= id) parts_.backends.resize(size_t{id} + 1);
    return parts_.backends[id];
  }

  Status compile_backends() {
    backend_record(0);  // "none"
    timeouts_ = model::longest_timeouts_by_pool(input_.desired);
    served_whole_ = pools_served_whole(input_.desired, input_.observed);
    std::unordered_set<std::string_view> names;
    pool_inputs_.reserve(input_.desired.pools.size());
    for (const model::Pool &pool : input_.desired.pools) {
      if (!names.insert(pool.name).second) return Error{"pools: two are named \"" + pool.name + "\""};
      if (Status status = check_limits(pool); !status.ok()) return status;
      if (Status status = compile_pool(pool); !status.ok()) return status;
    }
    for (const auto &[id, removed] : input_.identifiers.removed_backends()) {
      Backend &record = backend_record(id);
      record.address = removed.address;
      record.state = kBackendDraining;
      record.forwarding = kForwardingIpip;
      record.removed = 1;
      record.out_since_unix_s = removed.removed_unix_s;
      set_timeouts(&record, model::longest(removed.timeouts, pool_timeouts(removed.key.pool)));
      record.pool = parts_.strings.add(removed.key.pool);
      record.name = parts_.strings.add(removed.key.name);
    }
    return Done{};
  }

  Status compile_pool(const model::Pool &pool) {
    PoolTableInput table{pool.name, pool.slots, {}};
    PoolTableInput whole{whole_table(pool.name), pool.slots, {}};
    const StringRef pool_name = parts_.strings.add(pool.name);
    const EffectivePool effective = effective_pool(pool, input_.observed, served_whole_);
    for (size_t i = 0; i < pool.backends.size(); ++i) {
      const model::BackendSpec &backend = pool.backends[i];
      const auto id = input_.identifiers.backend_id({pool.name, backend.name});
      if (!id) return without_identifier("backend", pool.name + "/" + backend.name);
      Backend &record = backend_record(*id);
      record.address = backend.address;
      set_state(&record, effective.backends[i]);
      const model::BackendCondition &condition = input_.observed.condition_of({pool.name, backend.name});
      if (condition.drain)
        record.out_since_unix_s = static_cast<uint64_t>(std::max<int64_t>(0, condition.drain->began_unix_s));
      record.forwarding = kForwardingIpip;
      set_timeouts(&record, pool_timeouts(pool.name));
      record.pool = pool_name;
      record.name = parts_.strings.add(backend.name);
      if (record.state != kBackendUp) continue;
      const MaglevMember member{backend.name, *id, effective.backends[i].weight};
      whole.members.push_back({.maglev = member});
      if (effective.backends[i].failed_open) continue;
      table.members.push_back(
          {.maglev = member, .priority = backend.priority, .ramp_step = effective.backends[i].share_step});
    }
    if (effective.fails_open) {
      table.members = whole.members;
      failing_open_.insert(pool.name);
    }
    pool_inputs_.push_back(std::move(table));
    if (served_whole_.contains(pool.name)) pool_inputs_.push_back(std::move(whole));
    return Done{};
  }

  // A pool's second table, of all its backends. No pool has such a name.
  static std::string whole_table(const std::string &pool) { return pool + "/whole"; }

  static void set_state(Backend *record, const EffectiveBackend &effective) {
    record->state = effective.state;
    record->failed_open = effective.failed_open ? 1 : 0;
    record->weight = effective.weight;
    if (effective.ramp_step == kRampSteps || effective.weight == 0) return;
    record->ramp_step = effective.ramp_step;
    record->weight = static_cast<uint16_t>(std::max(1, effective.weight * effective.share_step / kRampSteps));
  }

  Status compile_slots() {
    parts_.slots = tables_.update(pool_inputs_, &cost_);
    uint64_t first = 0;
    for (size_t i = 0; i < pool_inputs_.size(); ++i) {
      const auto count = static_cast<uint32_t>(parts_.slots[i].size());
      table_slots_[pool_inputs_[i].table] = {static_cast<uint32_t>(first), count};
      first += count;
    }
    return Done{};  // that all slots together are too many is for write_snapshot to say
  }

  // The slots that a service goes by now: its pool's, or what its quorum says.
  Result<Slots> slots_of(const model::Service &service) const {
    const auto own = table_slots_.find(service.pool);
    if (own == table_slots_.end()) {
      return Error{"service \"" + service.name + "\": there is no pool \"" + service.pool + "\""};
    }
    if (!service.quorum || !input_.observed.below_quorum.contains(service.name)) return own->second;
    switch (service.quorum->action) {
      case model::QuorumAction::kWithdraw:
        return Slots{};
      case model::QuorumAction::kServeAll:
        return table_slots_.at(whole_table(service.pool));
      case model::QuorumAction::kBackupPool:
        break;
    }
    const auto backup = table_slots_.find(service.quorum->backup_pool);
    if (backup == table_slots_.end()) {
      return Error{"service \"" + service.name + "\": there is no pool \"" + service.quorum->backup_pool +
                   "\""};
    }
    // Better those who are left than nobody, or than those who have all failed.
    const bool is_good = backup->second.count > 0 && !failing_open_.contains(service.quorum->backup_pool);
    return is_good || own->second.count == 0 ? backup->second : own->second;
  }

  Status compile_services() {
    for (const model::Service &service : input_.desired.services) {
      if (Status status = check_limits(service); !status.ok()) return status;
      const auto id = input_.identifiers.service_id(service.name);
      if (!id) return without_identifier("service", service.name);
      const Result<Slots> slots = slots_of(service);
      if (!slots.ok()) return slots.error();
      if (parts_.services.size() <= *id) parts_.services.resize(size_t{*id} + 1);
      Service &record = parts_.services[*id];
      record.first_slot = slots.value().first;
      record.slot_count = slots.value().count;
      set_timeouts(&record, service.timeouts);
      record.scheduler =
          service.scheduler == model::Scheduler::kMaglev ? kSchedulerMaglev : kSchedulerLeastConnection;
      record.below_quorum = input_.observed.below_quorum.contains(service.name) ? 1 : 0;
      record.name = parts_.strings.add(service.name);
      collect_spans(service, *id);
    }
    return Done{};
  }

  void collect_spans(const model::Service &service, uint32_t id) {
    for (const Address &address : service.vips) {
      VipSpans &spans = vip_spans_[address];
      auto &of_protocol = service.protocol == model::Protocol::kTcp ? spans.tcp : spans.udp;
      for (const model::PortSpan span : service.ports) of_protocol.push_back({span, id});
    }
  }

  Status compile_vips() {
    std::vector<Vip> vips;
    for (auto &[address, spans] : vip_spans_) {
      const auto number = input_.identifiers.vip_number(address);
      if (!number) return without_identifier("VIP", format_address(address));
      Vip &vip = vips.emplace_back(Vip{address, *number, 0, 0, 0});
      if (Status status = add_ranges(address, std::move(spans.tcp), &vip.tcp_first); !status.ok())
        return status;
      if (Status status = add_ranges(address, std::move(spans.udp), &vip.udp_first); !status.ok())
        return status;
      vip.udp_end = static_cast<uint32_t>(parts_.port_ranges.size());
    }
    auto table = build_vip_table(vips, input_.flow_hash_key);
    if (!table.ok()) return table.error();
    parts_.vips = std::move(table).value();
    return Done{};
  }

  Status add_ranges(const Address &address, std::vector<ServiceSpan> spans, uint32_t *first) {
    *first = static_cast<uint32_t>(parts_.port_ranges.size());
    const auto ranges = flatten_port_spans(std::move(spans));
    if (!ranges.ok()) return Error{"VIP " + format_address(address) + ": " + ranges.error().message};
    parts_.port_ranges.insert(parts_.port_ranges.end(), ranges.value().begin(), ranges.value().end());
    return Done{};
  }

  Status compile_pins() {
    for (const auto &[source, pins] : input_.identifiers.check_pins()) {
      parts_.check_sources.push_back(
          {source, static_cast<uint32_t>(parts_.pins.size()), static_cast<uint32_t>(pins.size())});
      parts_.pins.insert(parts_.pins.end(), pins.begin(), pins.end());
    }
    return Done{};
  }

  struct VipSpans {
    std::vector<ServiceSpan> tcp;
    std::vector<ServiceSpan> udp;
  };

  const CompileInput &input_;
  PoolTables &tables_;
  SnapshotParts parts_;
  CompileCost cost_;
  std::unordered_map<std::string, model::Timeouts> timeouts_;  // by pool
  std::set<std::string> served_whole_;                         // pools
  std::set<std::string> failing_open_;                         // pools
  std::vector<PoolTableInput> pool_inputs_;
  std::unordered_map<std::string, Slots> table_slots_;  // by table: one for each pool, or two
  std::map<Address, VipSpans> vip_spans_;
};

}  // namespace

struct Compiler::Cache {
  PoolTables tables;
};

Compiler::Compiler() : cache_(std::make_unique<Cache>()) {}
Compiler::~Compiler() = default;
Compiler::Compiler(Compiler &&) noexcept = default;
Compiler &Compiler::operator=(Compiler &&) noexcept = default;

Result<CompiledSnapshot> Compiler::compile(const CompileInput &input) {
  return Compilation(input, &cache_->tables).run();
}

}  // namespace sluice
