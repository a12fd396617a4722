// What libbpf says, of which the verifier's log can have a hundred thousand lines.
#ifndef SLUICE_XDP_LIBBPF_LOG_H
#define SLUICE_XDP_LIBBPF_LOG_H

#include <string>
#include <string_view>

namespace sluice {

/// From now on libbpf's words go to the log, at its level debug; of a long one, the end.
void listen_to_libbpf();

/// Why the verifier last refused a program that this thread loaded, and forgets it; "" if it did not.
std::string take_refusal();

/// The same of one of libbpf's messages: `sluice_xdp: "R1 unbounded memory access, ..."`.
std::string refusal_in(std::string_view message);

}  // namespace sluice

#endif
