// The command of a health check of type exec.
#ifndef SLUICE_CONTROLPLANE_CONFIG_COMMAND_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_COMMAND_READER_H

#include "controlplane/config/field_reader.h"
#include "controlplane/model/health_check.h"

namespace sluice {

/// Of `health`, whose type is exec: its keys "command" and "readable". Notes an error for everything that is
/// wrong, also for a command that its sandbox does not show.
model::ExecCheck read_command_check(const Field &health, FieldReader &reader);

}  // namespace sluice

#endif
