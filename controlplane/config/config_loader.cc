#include "controlplane/config/config_loader.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "controlplane/config/check_ports.h"
#include "controlplane/config/check_vips.h"
#include "controlplane/config/cross_check.h"
#include "controlplane/config/document_reader.h"
#include "controlplane/config/field_reader.h"
#include "controlplane/config/yaml_tree.h"

namespace sluice {
namespace {

// The values without their places; only of a state without errors.
model::DesiredState without_places(PlacedState placed) {
  model::DesiredState state = std::move(placed.state);
  state.api = std::move(placed.api.spec);
  for (PlacedService &from : placed.services) {
    model::Service &service = state.services.emplace_back(std::move(from.service));
    service.name = std::move(from.name.value);
    service.pool = std::move(from.pool.value);
    service.protocol = from.protocol.value_or(service.protocol);
    if (from.quorum) {
      service.quorum = std::move(from.quorum->quorum);
      service.quorum->backup_pool = std::move(from.quorum->backup_pool.value);
    }
    for (const auto &vip : from.vips) service.vips.push_back(vip.value);
    for (const auto &port : from.ports) service.ports.push_back(port.value);
  }
  for (PlacedPool &from : placed.pools) {
    model::Pool &pool = state.pools.emplace_back(std::move(from.pool));
    pool.name = std::move(from.name.value);
    pool.slots = from.slots.value;
    for (PlacedBackend &member : from.backends) {
      model::BackendSpec &backend = pool.backends.emplace_back(std::move(member.backend));
      backend.name = std::move(member.name.value);
      backend.address = member.address.value;
    }
  }
  return state;
}

LoadedConfig failed(const std::string &file, TextPlace place, std::string message) {
  return {std::nullopt, {{file, place.line, place.column, "", "", std::move(message)}}};
}

}  // namespace

std::string ConfigError::to_string() const {
  std::ostringstream text;
  text << file;
  if (line > 0) text << ':' << line << ':' << column;
  if (!field.empty()) text << ": " << field;
  text << ": " << message;
  return text.str();
}

std::string LoadedConfig::errors_to_string() const {
  std::string text;
  for (const ConfigError &error : errors) text += error.to_string() + "\n";
  return text;
}

LoadedConfig load_config(std::string_view text, const std::string &file) {
  YamlDocument document = parse_yaml(text);
  ErrorList errors(file);
  for (YamlFault &fault : document.faults) errors.add(fault.place, "", "", std::move(fault.message));
  if (!document.root) return {std::nullopt, errors.take()};
  PlacedState placed = read_document(*document.root, errors);
  fill_check_ports(&placed, errors);
  fill_check_vips(&placed, errors);
  check_across(placed, errors);
  if (!errors.empty()) return {std::nullopt, errors.take()};
  return {without_places(std::move(placed)), {}};
}

Result<std::string> read_config_file(const std::filesystem::path &path) {
  std::error_code fault;
  const auto size = std::filesystem::file_size(path, fault);
  if (fault) return Error{"cannot be read: " + fault.message()};
  if (size > kMaxYamlBytes) {
    return Error{"has " + std::to_string(size) + " bytes; at most " + std::to_string(kMaxYamlBytes) +
                 " are allowed"};
  }
  std::ifstream stream(path, std::ios::binary);
  std::string text(size, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(size));
  if (!stream) return Error{std::string("cannot be read: ") + std::strerror(errno)};
  return text;
}

LoadedConfig load_config_file(const std::filesystem::path &path) {
  const Result<std::string> text = read_config_file(path);
  if (!text.ok()) return failed(path.string(), {}, text.error().message);
  return load_config(text.value(), path.string());
}

}  // namespace sluice
