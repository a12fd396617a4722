#include "controlplane/store/state_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/random.h>

#include "controlplane/model/address_text.h"
#include "controlplane/store/atomic_file.h"
#include "controlplane/store/directories.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr const char *kSnapshotFile = "snapshot";
constexpr const char *kFlowHashKeyFile = "flow_hash_key";
constexpr const char *kOrdersFile = "orders.json";
constexpr const char *kWeightsFile = "weights.json";
constexpr const char *kHoldsFile = "holds.json";
constexpr const char *kEngineFile = "engine";
constexpr const char *kLockFile = "lock";
constexpr int kOrdersVersion = 1;
constexpr int kHoldsVersion = 1;
constexpr int kWeightsVersion = 1;
constexpr std::array<std::string_view, 2> kOrderNames = {"drain", "maintenance"};  // by OrderKind

// One entry of the orders' file; nothing when it is not as save_orders() writes it.
std::optional<OperatorOrders::value_type> read_order(const json &entry) {
  if (!entry.is_object()) return std::nullopt;
  const json pool = entry.value("pool", json());
  const json name = entry.value("backend", json());
  const json kind = entry.value("order", json());
  const json since = entry.value("since_unix_s", json());
  const json deadline = entry.value("deadline_s", json(0u));
  const json pending = entry.value("pending", json(false));
  const auto known = std::ranges::find(kOrderNames, kind.is_string() ? kind.get<std::string>() : "");
  if (!pool.is_string() || !name.is_string() || known == kOrderNames.end() || !since.is_number_integer() ||
      !deadline.is_number_unsigned() || deadline > UINT32_MAX || !pending.is_boolean()) {
    return std::nullopt;
  }
  model::OperatorOrder order{.kind = static_cast<model::OrderKind>(known - kOrderNames.begin()),
                             .since_unix_s = std::max<int64_t>(0, since.get<int64_t>()),
                             .is_pending = pending.get<bool>()};
  if (entry.contains("deadline_s")) order.deadline = std::chrono::seconds(deadline.get<uint32_t>());
  return OperatorOrders::value_type{{pool.get<std::string>(), name.get<std::string>()}, order};
}

}  // namespace

bool system_random(std::span<std::byte> bytes) {
  return getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

Result<StateStore> StateStore::open(const std::filesystem::path &directory) {
  const bool is_new = !std::filesystem::exists(directory);
  if (Status made = make_directories(directory); !made.ok()) {
    return Error{"--state-dir: " + made.error().message};
  }
  std::error_code ignored;
  if (is_new) std::filesystem::permissions(directory, std::filesystem::perms::owner_all, ignored);
  const std::filesystem::path path = directory / kLockFile;
  FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) {
    return Error{state_file_error(path, "cannot be opened").message + "; let the user of sluiced write to " +
                 directory.string() + ", or choose another directory with --state-dir"};
  }
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{"state directory " + directory.string() +
                 ": another sluiced uses it; stop that one or give this one another directory"};
  }
  return StateStore(directory, std::move(lock));
}

Result<std::optional<SnapshotBytes>> StateStore::load_snapshot() const {
  return read_file(directory_ / kSnapshotFile);
}

Status StateStore::save_snapshot(std::span<const std::byte> snapshot) {
  return write_file(directory_ / kSnapshotFile, snapshot);
}

Result<FlowHashKey> StateStore::load_or_make_flow_hash_key(const RandomSource &random) {
  const std::filesystem::path path = directory_ / kFlowHashKeyFile;
  const auto stored = read_file(path);
  if (!stored.ok()) return stored.error();
  FlowHashKey key{};
  if (stored.value()) {
    if (stored.value()->size() != sizeof(key)) {
      return Error{"state file " + path.string() + ": has " + std::to_string(stored.value()->size()) +
                   " bytes instead of " + std::to_string(sizeof(key)) +
                   "; put back its copy, or remove it (connections then move)"};
    }
    std::memcpy(&key, stored.value()->data(), sizeof(key));
    return key;
  }
  if (!random(std::as_writable_bytes(std::span(&key, 1)))) {
    return Error{"flow_hash_key: the system gives no random bytes; set it in the configuration"};
  }
  if (Status status = write_file(path, std::as_bytes(std::span(&key, 1))); !status.ok())
    return status.error();
  return key;
}

Result<OperatorOrders> StateStore::load_orders() const {
  const std::filesystem::path path = directory_ / kOrdersFile;
  const auto stored = read_file(path);
  if (!stored.ok()) return stored.error();
  OperatorOrders orders;
  if (!stored.value()) return orders;
  const Error damaged{"state file " + path.string() +
                      ": is damaged; remove it, and drain or put in maintenance again what must be"};
  const auto *text = reinterpret_cast<const char *>(stored.value()->data());
  const json document = json::parse(text, text + stored.value()->size(), nullptr, false);
  if (!document.is_object() || document.value("version", json()) != kOrdersVersion) return damaged;
  const json entries = document.value("orders", json());
  if (!entries.is_array()) return damaged;
  for (const json &entry : entries) {
    auto order = read_order(entry);
    if (!order) return damaged;
    orders.insert(std::move(*order));
  }
  return orders;
}

Status StateStore::save_orders(const OperatorOrders &orders) {
  json entries = json::array();
  for (const auto &[key, order] : orders) {
    json entry = {{"pool", key.pool},
                  {"backend", key.name},
                  {"order", kOrderNames.at(static_cast<size_t>(order.kind))},
                  {"since_unix_s", order.since_unix_s}};
    if (order.deadline) entry["deadline_s"] = order.deadline->count();
    if (order.is_pending) entry["pending"] = true;
    entries.push_back(std::move(entry));
  }
  const json document = {{"version", kOrdersVersion}, {"orders", std::move(entries)}};
  return write_file(directory_ / kOrdersFile,
                    document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

Result<OperatorWeights> StateStore::load_weights() const {
  const std::filesystem::path path = directory_ / kWeightsFile;
  const auto stored = read_file(path);
  if (!stored.ok()) return stored.error();
  OperatorWeights weights;
  if (!stored.value()) return weights;
  const Error damaged{"state file " + path.string() + ": is damaged; remove it, and set the weights again"};
  try {
    const auto *text = reinterpret_cast<const char *>(stored.value()->data());
    const json document = json::parse(text, text + stored.value()->size());
    if (document.at("version") != kWeightsVersion) return damaged;
    for (const json &entry : document.at("weights")) {
      const uint64_t weight = entry.at("weight");
      if (weight > kMaxWeight) return damaged;
      weights.emplace(model::BackendKey{entry.at("pool"), entry.at("backend")},
                      static_cast<uint16_t>(weight));
    }
  } catch (const json::exception &) {
    return damaged;
  }
  return weights;
}

Status StateStore::save_weights(const OperatorWeights &weights) {
  json entries = json::array();
  for (const auto &[key, weight] : weights)
    entries.push_back({{"pool", key.pool}, {"backend", key.name}, {"weight", weight}});
  const json document = {{"version", kWeightsVersion}, {"weights", std::move(entries)}};
  return write_file(directory_ / kWeightsFile,
                    document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

Result<std::string> StateStore::load_engine() const {
  const auto stored = read_file(directory_ / kEngineFile);
  if (!stored.ok()) return stored.error();
  if (!stored.value()) return std::string();
  const auto *text = reinterpret_cast<const char *>(stored.value()->data());
  const std::string_view line(text, stored.value()->size());
  return std::string(line.substr(0, line.find('\n')));
}

Status StateStore::save_engine(const std::string &engine) {
  return write_file(directory_ / kEngineFile, engine + "\n");
}

Result<StoredHolds> StateStore::load_holds() const {
  const std::filesystem::path path = directory_ / kHoldsFile;
  const auto stored = read_file(path);
  if (!stored.ok()) return stored.error();
  StoredHolds holds;
  if (!stored.value()) return holds;
  const Error damaged{"state file " + path.string() + ": is damaged; remove it"};
  try {
    const auto *text = reinterpret_cast<const char *>(stored.value()->data());
    const json document = json::parse(text, text + stored.value()->size());
    if (document.at("version") != kHoldsVersion) return damaged;
    for (const json &entry : document.at("holds")) {
      const auto address = parse_address(entry.at("address").get<std::string>());
      if (!address) return damaged;
      holds.emplace(model::BackendKey{entry.at("pool"), entry.at("backend")},
                    StoredHold{.address = *address,
                               .until_unix_s = entry.at("until_unix_s"),
                               .falls = entry.at("falls"),
                               .is_well = entry.at("well")});
    }
  } catch (const json::exception &) {
    return damaged;
  }
  return holds;
}

Status StateStore::save_holds(const StoredHolds &holds) {
  json entries = json::array();
  for (const auto &[key, hold] : holds) {
    entries.push_back({{"pool", key.pool},
                       {"backend", key.name},
                       {"address", format_address(hold.address)},
                       {"until_unix_s", hold.until_unix_s},
                       {"falls", hold.falls},
                       {"well", hold.is_well}});
  }
  const json document = {{"version", kHoldsVersion}, {"holds", std::move(entries)}};
  return write_file(directory_ / kHoldsFile,
                    document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace sluice
