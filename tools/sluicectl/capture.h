// Frames out of capture files, by libpcap.
#ifndef SLUICE_TOOLS_SLUICECTL_CAPTURE_H
#define SLUICE_TOOLS_SLUICECTL_CAPTURE_H

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"

namespace sluice::ctl {

struct CapturedFrame {
  std::vector<uint8_t> bytes;  // as many as were captured
  uint32_t length = 0;         // bytes of the frame on the wire
};

/// Frame `number`, from 1 on, of a pcap or pcapng file; "-" is standard input. Errors name the file: not to
/// be read, not captured on Ethernet, or with fewer frames.
Result<CapturedFrame> read_capture(const std::string &file, uint64_t number);

}  // namespace sluice::ctl

#endif
