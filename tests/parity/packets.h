// Random frames: good ones of a world's flows, odd ones, and ones that no sender should send.
#ifndef SLUICE_TESTS_PARITY_PACKETS_H
#define SLUICE_TESTS_PARITY_PACKETS_H

#include "tests/core/packet_builder.h"
#include "tests/parity/random.h"
#include "tests/parity/world.h"

namespace sluice {

/// A frame of at most `longest` bytes.
Bytes random_frame(Random *random, const World &world, size_t longest);

}  // namespace sluice

#endif
