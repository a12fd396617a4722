// Reads sluiced's YAML configuration: all of it is right, or every error in it is told at once.
#ifndef SLUICE_CONTROLPLANE_CONFIG_CONFIG_LOADER_H
#define SLUICE_CONTROLPLANE_CONFIG_CONFIG_LOADER_H

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/desired_state.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// One thing that is wrong with a configuration.
struct ConfigError {
  std::string file;
  int line = 0;         // from 1; 0: the file as a whole
  int column = 0;       // from 1; 0: the file as a whole
  std::string field;    // "services[0].ports[2]"; empty: the document as a whole
  std::string value;    // as written, cut to a readable length; empty where there is none
  std::string message;  // what is wrong with the value; what is allowed

  /// "file:line:column: field: message".
  std::string to_string() const;
};

/// A configuration, or (never both) what is wrong with it, in the order of the file.
struct LoadedConfig {
  std::optional<model::DesiredState> state;
  std::vector<ConfigError> errors;

  bool ok() const { return state.has_value(); }

  /// Every error on its own line, for logs and terminals.
  std::string errors_to_string() const;
};

/// The text of the file at `path`. Fails when it cannot be read, or is longer than a configuration may be.
Result<std::string> read_config_file(const std::filesystem::path &path);

/// Reads the file at `path`. A file that cannot be read is an error like any other.
LoadedConfig load_config_file(const std::filesystem::path &path);

/// Reads `text`; `file` is the name that errors carry. Any bytes are safe: size, nesting and the
/// number of nodes are bounded, anchors and aliases are refused.
LoadedConfig load_config(std::string_view text, const std::string &file);

}  // namespace sluice

#endif
