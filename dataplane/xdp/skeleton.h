// libbpf's skeleton of bpf/sluice.bpf.c: `sluice_program`, with the program's global variables as C++ sees
// them. It names the records of bpf/layout.h and the ABI, which are in our namespace; so it is included into
// it.
#ifndef SLUICE_XDP_SKELETON_H
#define SLUICE_XDP_SKELETON_H

// What the skeleton includes itself must be outside of the namespace.
#include <cerrno>
#include <cstdlib>

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "bpf/layout.h"
#include "dataplane/abi/egress.h"

namespace sluice {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "bpf/sluice.skel.h"
#pragma GCC diagnostic pop
}  // namespace sluice

#endif
