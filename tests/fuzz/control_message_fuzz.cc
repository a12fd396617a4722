// Any bytes as a message on the control socket: an answer's worth of request, or an error in words.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dataplane/server/control_socket.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const auto parsed = sluice::parse_control_request({reinterpret_cast<const char *>(data), size});
  if (const auto *error = std::get_if<sluice::ControlMessageError>(&parsed)) {
    if (error->message.empty()) __builtin_trap();
  } else if (std::get<sluice::ControlRequest>(parsed).descriptor.valid()) {
    __builtin_trap();
  }
  return 0;
}
