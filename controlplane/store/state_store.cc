#include "controlplane/store/state_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "controlplane/store/directories.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr const char *kSnapshotFile = "snapshot";
constexpr const char *kFlowHashKeyFile = "flow_hash_key";
constexpr const char *kOrdersFile = "orders.json";
constexpr const char *kLockFile = "lock";
constexpr int kOrdersVersion = 1;
constexpr std::array<std::string_view, 2> kOrderNames = {"drain", "maintenance"};  // by OrderKind
constexpr uint64_t kMaxFileBytes = 4ull << 30;

Error system_error(const std::filesystem::path &path, const std::string &what) {
  return Error{"state file " + path.string() + ": " + what + ": " + std::strerror(errno)};
}

// The file's bytes; nothing when there is no such file.
Result<std::optional<std::vector<std::byte>>> read_file(const std::filesystem::path &path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) return std::optional<std::vector<std::byte>>();
  if (!file.valid()) return system_error(path, "cannot be opened");
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return system_error(path, "fstat");
  const auto size = static_cast<uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size > kMaxFileBytes) {
    return Error{"state file " + path.string() + ": no regular file of a sensible size; remove it"};
  }
  std::vector<std::byte> bytes(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t count = ::read(file.get(), bytes.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return system_error(path, "cannot be read");
    done += static_cast<uint64_t>(count);
  }
  return std::optional(std::move(bytes));
}

Status sync_directory(const std::filesystem::path &directory) {
  const FileDescriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened.valid() || fsync(opened.get()) != 0) return system_error(directory, "fsync");
  return Done{};
}

// Writes a new file beside the old one and puts it in the old one's place: whoever reads sees one of
// the two, whole, also after a power failure.
Status write_file(const std::filesystem::path &path, std::span<const std::byte> bytes) {
  std::filesystem::path temporary = path;
  temporary += ".new";
  FileDescriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return system_error(temporary, "cannot be made");
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return system_error(temporary, "cannot be written");
    done += static_cast<size_t>(count);
  }
  if (fsync(file.get()) != 0) return system_error(temporary, "fsync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error(path, "cannot be replaced");
  return sync_directory(path.parent_path());
}

Status write_file(const std::filesystem::path &path, const std::string &text) {
  return write_file(path, std::as_bytes(std::span(text)));
}

// One entry of the orders' file; nothing when it is not as save_orders() writes it.
std::optional<OperatorOrders::value_type> read_order(const json &entry) {
  if (!entry.is_object()) return std::nullopt;
  const json pool = entry.value("pool", json());
  const json name = entry.value("backend", json());
  const json kind = entry.value("order", json());
  const json since = entry.value("since_unix_s", json());
  const json deadline = entry.value("deadline_s", json(0u));
  const auto known = std::ranges::find(kOrderNames, kind.is_string() ? kind.get<std::string>() : "");
  if (!pool.is_string() || !name.is_string() || known == kOrderNames.end() || !since.is_number_integer() ||
      !deadline.is_number_unsigned() || deadline > UINT32_MAX) {
    return std::nullopt;
  }
  model::OperatorOrder order{.kind = static_cast<model::OrderKind>(known - kOrderNames.begin()),
                             .since_unix_s = std::max<int64_t>(0, since.get<int64_t>())};
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
    return Error{system_error(path, "cannot be opened").message + "; let the user of sluiced write to " +
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
    entries.push_back(std::move(entry));
  }
  const json document = {{"version", kOrdersVersion}, {"orders", std::move(entries)}};
  return write_file(directory_ / kOrdersFile,
                    document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace sluice
