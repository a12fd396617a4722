// What goes into a command of a check, and what comes out of it, as text.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_COMMAND_WORDS_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_COMMAND_WORDS_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/model/desired_state.h"

namespace sluice {

/// What model::kCommandPlaceholders stand for.
struct CommandValues {
  std::string address;
  uint16_t l4_port = 0;
  const model::BackendKey *key = nullptr;
};

/// `arguments` with every placeholder replaced, once: what replaces one is no placeholder, whatever it says.
std::vector<std::string> command_words(const std::vector<std::string> &arguments,
                                       const CommandValues &values);

/// Of what a command wrote: made printable, without quotes, and cut.
std::string first_line(std::string_view output);

/// `text`, and the first line of `output` behind a colon, if it has one.
std::string with_first_line(const std::string &text, std::string_view output);

}  // namespace sluice

#endif
