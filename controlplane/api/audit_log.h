// Who changed what, and who tried to: JSON, one object a line, in files of bounded size.
#ifndef SLUICE_CONTROLPLANE_API_AUDIT_LOG_H
#define SLUICE_CONTROLPLANE_API_AUDIT_LOG_H

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "controlplane/publish/file_descriptor.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

struct AuditLogOptions {
  std::filesystem::path path;
  uint64_t max_bytes = 16u << 20;  // of one file; then it is PATH.1, the one before PATH.2 ...
  int kept_files = 4;              // beside the one that is written
};

/// Not thread-safe. A line is written whole or not at all, and never has another line in it, whatever is
/// logged.
class AuditLog {
 public:
  /// Opens the file for appending (0640), and makes it where it is missing. The error names it.
  static Result<AuditLog> open(AuditLogOptions options);

  /// Adds `entry` with the time in front. What cannot be written is lost, and said in sluiced's log: a full
  /// disk must not keep an operator from draining a backend.
  void append(const nlohmann::ordered_json &entry);

 private:
  AuditLog(AuditLogOptions options, FileDescriptor file, uint64_t bytes)
      : options_(std::move(options)), file_(std::move(file)), bytes_(bytes) {}

  void rotate();

  AuditLogOptions options_;
  FileDescriptor file_;
  uint64_t bytes_;
  uint64_t lost_ = 0;  // lines, since the last one that was written
};

}  // namespace sluice::api

#endif
