#include "controlplane/config/lifecycle_reader.h"

#include <array>
#include <charconv>
#include <string>

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kMaxQuorumBackends = kMaxBackends - 1;
constexpr std::array<std::string_view, 4> kQuorumKeys = {"min", "recover", "action", "backup_pool"};
constexpr std::array<std::string_view, 3> kFlapDampingKeys = {"falls", "window", "hold"};

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

// "2" or "50%".
std::optional<model::QuorumThreshold> read_threshold(const Field &field, FieldReader &reader) {
  const auto text = reader.scalar(field);
  if (!text) return std::nullopt;
  std::string_view digits = *text;
  const bool is_percent = digits.ends_with('%');
  if (is_percent) digits.remove_suffix(1);
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const uint32_t most = is_percent ? 100 : kMaxQuorumBackends;
  if (error == std::errc() && end == digits.data() + digits.size() && number >= 1 && number <= most)
    return model::QuorumThreshold{number, is_percent};
  reader.error(field, in_quotes(*text) + " is no threshold; allowed: a number of backends from 1 to " +
                          std::to_string(kMaxQuorumBackends) + ", or a share of them such as \"50%\"");
  return std::nullopt;
}

// A quorum that is met again before it is lost would change with every turn of the loop.
void check_hysteresis(const Field &field, const model::Quorum &quorum, FieldReader &reader) {
  if (quorum.recover.is_percent != quorum.min.is_percent) {
    reader.error(field, "must be of the same kind as min: both numbers of backends, or both shares");
  } else if (quorum.recover.number < quorum.min.number) {
    reader.error(field, "is less than min: the quorum would be met and lost at once; allowed: min or more");
  }
}

}  // namespace

std::span<const std::string_view> quorum_keys() { return kQuorumKeys; }
std::span<const std::string_view> flap_damping_keys() { return kFlapDampingKeys; }

std::optional<PlacedQuorum> read_quorum(const Field &field, FieldReader &reader) {
  if (!reader.is_map(field, kQuorumKeys)) return std::nullopt;
  PlacedQuorum placed;
  model::Quorum &quorum = placed.quorum;
  if (const auto min = reader.require(field, "min")) put(read_threshold(*min, reader), &quorum.min);
  quorum.recover = quorum.min;
  if (const auto recover = reader.find(field, "recover")) {
    put(read_threshold(*recover, reader), &quorum.recover);
    check_hysteresis(*recover, quorum, reader);
  }
  if (const auto action = reader.require(field, "action")) {
    using enum model::QuorumAction;
    put(reader.choice<model::QuorumAction>(
            *action, {{"serve-all", kServeAll}, {"backup-pool", kBackupPool}, {"withdraw", kWithdraw}}),
        &quorum.action);
  }
  const bool needs_pool = quorum.action == model::QuorumAction::kBackupPool;
  const auto backup =
      needs_pool ? reader.require(field, "backup_pool") : FieldReader::find(field, "backup_pool");
  if (backup && !needs_pool) {
    reader.error(*backup, "has a meaning with action backup-pool only; remove it");
  } else if (backup) {
    placed.backup_pool = {reader.name(*backup).value_or(""), backup->node->place, 0};
  }
  return placed;
}

void read_pool_lifecycle(const Field &pool_field, FieldReader &reader, model::Pool *pool) {
  if (const auto slow_start = reader.find(pool_field, "slow_start"))
    put(reader.duration(*slow_start, 0ms, 24h), &pool->slow_start);
  if (const auto deadline = reader.find(pool_field, "drain_deadline"))
    pool->drain_deadline = reader.seconds(*deadline, 1s, 720h);
  const auto damping = reader.find(pool_field, "flap_damping");
  if (!damping || !reader.is_map(*damping, kFlapDampingKeys)) return;
  model::FlapDamping &flap_damping = pool->flap_damping.emplace();
  if (const auto falls = reader.find(*damping, "falls")) {
    if (const auto number = reader.number(*falls, 1, 100))
      flap_damping.falls = static_cast<uint16_t>(*number);
  }
  if (const auto window = reader.find(*damping, "window"))
    put(reader.seconds(*window, 1s, 24h), &flap_damping.window);
  if (const auto hold = reader.find(*damping, "hold"))
    put(reader.seconds(*hold, 1s, 24h), &flap_damping.hold);
}

}  // namespace sluice
