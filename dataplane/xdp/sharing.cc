#include "dataplane/xdp/sharing.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

namespace sluice {
namespace {

constexpr std::string_view kOfAfXdp = "xsk_def_prog";

/// What the dispatcher calls beside the engine's entry.
std::vector<DispatchedProgram> others_in(const Occupation &occupation) {
  std::vector<DispatchedProgram> others = occupation.dispatcher->programs;
  std::erase_if(others, [&](const DispatchedProgram &program) { return program.id == occupation.own; });
  return others;
}

Error is_not_shared(const std::vector<DispatchedProgram> &others, const std::string &interface,
                    const std::string &cause) {
  std::string remedy;
  for (const DispatchedProgram &program : others)
    remedy +=
        fmt::format("{}xdp-loader unload {} --id {}", remedy.empty() ? "" : "; ", interface, program.id);
  return Error{fmt::format(
      "interface: \"{}\" has other XDP programs under libxdp's dispatcher, {}, and {}; if nothing needs "
      "them, remove them with: {}",
      interface, names_of(others), cause, remedy)};
}

Error is_foreign(const InterfaceProgram &program, const std::string &interface,
                 const std::string &no_dispatcher) {
  const std::string sharing =
      no_dispatcher.empty()
          ? fmt::format(
                "or load it under libxdp's dispatcher, where programs share (xdp-loader load {} FILE)",
                interface)
          : fmt::format("it cannot be shared with on this host: {}", no_dispatcher);
  return Error{fmt::format(
      "interface: \"{}\" has another XDP program, \"{}\" (id {}, {}), and is not shared; if nothing needs "
      "that one, remove it with: {}; {}; or give --engine dpdk with another device",
      interface, program.name, program.id, mode_text(program.mode), removal_command(program, interface),
      sharing)};
}

}  // namespace

bool is_of_af_xdp(const Occupation &occupation) {
  if (!occupation.dispatcher) return occupation.program.name == kOfAfXdp;
  const std::vector<DispatchedProgram> &programs = occupation.dispatcher->programs;
  return !programs.empty() &&
         std::all_of(programs.begin(), programs.end(),
                     [](const DispatchedProgram &program) { return program.name == kOfAfXdp; });
}

Result<PortSharing> choose_sharing(XdpSharing wanted, const Occupation &occupation,
                                   const std::string &interface, const std::string &no_dispatcher) {
  const bool is_ours = !occupation.dispatcher && occupation.own == occupation.program.id;
  if (occupation.program.id != 0 && !occupation.dispatcher && !is_ours)
    return is_foreign(occupation.program, interface, no_dispatcher);
  if (occupation.dispatcher) {
    const std::vector<DispatchedProgram> others = others_in(occupation);
    if (others.empty() && wanted != XdpSharing::kOn) {
      return wanted == XdpSharing::kAuto && no_dispatcher.empty() ? PortSharing::kDispatcher
                                                                  : PortSharing::kAlone;
    }
    if (wanted == XdpSharing::kOff) return is_not_shared(others, interface, "--xdp-sharing is off");
    if (!no_dispatcher.empty())
      return is_not_shared(others, interface, "no more can be put there: " + no_dispatcher);
    return PortSharing::kDispatcher;
  }
  if (wanted != XdpSharing::kOn) return PortSharing::kAlone;
  if (no_dispatcher.empty()) return PortSharing::kDispatcher;
  return Error{
      fmt::format("--xdp-sharing: \"on\" is not possible, libxdp's dispatcher cannot take the program: {}",
                  no_dispatcher)};
}

std::string sharing_text(XdpSharing wanted, const std::string &no_dispatcher) {
  if (wanted == XdpSharing::kOff) return "off (--xdp-sharing): each interface has the program alone";
  if (!no_dispatcher.empty())
    return fmt::format(
        "not on this host, each interface has the program alone: libxdp's dispatcher cannot take it: {}",
        no_dispatcher);
  return wanted == XdpSharing::kOn
             ? "under libxdp's dispatcher, beside other programs"
             : "under libxdp's dispatcher where one is, else alone (--xdp-sharing on: always "
               "under one, so that other programs can be added later)";
}

}  // namespace sluice
