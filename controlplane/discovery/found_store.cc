#include "controlplane/discovery/found_store.h"

#include <string_view>

#include <nlohmann/json.hpp>

#include "controlplane/config/field_reader.h"
#include "controlplane/store/atomic_file.h"
#include "controlplane/store/directories.h"

namespace sluice {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;

constexpr const char *kOrigins[] = {"source", "configuration"};  // by FoundOrigin

json to_json(const FoundBackend &backend) {
  json value = {{"name", backend.name},
                {"address", format_address(backend.address)},
                {"weight", backend.weight},
                {"priority", backend.priority},
                {"check_port", backend.check_port},
                {"drain", backend.drain},
                {"ttl_ms", backend.ttl.count()}};
  if (backend.check_address) value["check_address"] = format_address(*backend.check_address);
  return value;
}

// Throws nlohmann's exceptions at what is missing or of another type.
std::optional<FoundBackend> from_json(const json &value) {
  const auto address = parse_address(value.at("address").get<std::string>());
  FoundBackend backend;
  backend.name = value.at("name").get<std::string>();
  if (!address || address_fault(*address) != nullptr || !is_name(backend.name)) return std::nullopt;
  backend.address = *address;
  backend.weight = std::min(value.at("weight").get<uint16_t>(), uint16_t{kMaxWeight});
  backend.priority = value.at("priority").get<uint16_t>();
  backend.check_port = value.at("check_port").get<uint16_t>();
  backend.drain = value.at("drain").get<bool>();
  backend.ttl = std::chrono::milliseconds(value.at("ttl_ms").get<int64_t>());
  if (!value.contains("check_address")) return backend;
  backend.check_address = parse_address(value.at("check_address").get<std::string>());
  if (!backend.check_address || address_fault(*backend.check_address) != nullptr) return std::nullopt;
  return backend;
}

std::optional<StoredPool> parse_stored(std::string_view text) {
  try {
    const json document = json::parse(text);
    if (document.at("version") != kVersion) return std::nullopt;
    Answer answer;
    for (const json &value : document.at("backends")) {
      const auto backend = from_json(value);
      if (!backend) return std::nullopt;
      answer.backends.push_back(*backend);
    }
    StoredPool stored{
        .unix_s = document.at("unix_s").get<int64_t>(),
        .backends = std::make_shared<const std::vector<FoundBackend>>(tidied(std::move(answer)).backends)};
    if (document.value("origin", "") == kOrigins[1]) stored.origin = FoundOrigin::kConfiguration;
    return stored;
  } catch (const json::exception &) {
    return std::nullopt;
  }
}

}  // namespace

Result<std::optional<StoredPool>> FoundStore::load(const std::string &pool) const {
  const std::filesystem::path path = path_of(pool);
  std::error_code none;  // of its own: most pools that come were never there
  if (!std::filesystem::exists(path, none)) std::filesystem::rename(aside(pool), path, none);
  const auto bytes = read_file(path);
  if (!bytes.ok()) return bytes.error();
  if (!bytes.value()) return std::optional<StoredPool>();
  auto stored = parse_stored({reinterpret_cast<const char *>(bytes.value()->data()), bytes.value()->size()});
  if (!stored) return Error{"state file " + path.string() + ": is damaged; remove it"};
  return stored;
}

Status FoundStore::save(const std::string &pool, const StoredPool &stored) const {
  if (Status made = make_directories(directory_); !made.ok()) return made;
  json backends = json::array();
  for (const FoundBackend &backend : *stored.backends) backends.push_back(to_json(backend));
  const json document = {{"version", kVersion},
                         {"unix_s", stored.unix_s},
                         {"origin", kOrigins[static_cast<size_t>(stored.origin)]},
                         {"backends", std::move(backends)}};
  return write_file(path_of(pool), document.dump(1) + "\n");
}

Status FoundStore::keep_only(const std::set<std::string> &pools, std::filesystem::file_time_type now) const {
  namespace fs = std::filesystem;
  std::error_code fault;
  if (!fs::exists(directory_, fault)) return Done{};
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(directory_, fault), end; !fault && entry != end; entry.increment(fault))
    files.push_back(entry->path());
  for (const fs::path &path : files) {
    const std::string pool = path.stem();
    if (path.extension() == ".json" && !pools.contains(pool)) {
      fs::last_write_time(path, now, fault);
      fs::rename(path, aside(pool), fault);
    } else if (path.extension() == ".gone" && fs::last_write_time(path, fault) + kKeptAside < now) {
      fs::remove(path, fault);
    }
  }
  if (fault) return Error{"state directory " + directory_.string() + ": " + fault.message()};
  return Done{};
}

}  // namespace sluice
