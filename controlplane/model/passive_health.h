// What the operator wants done with a backend whose clients get nowhere, by what the dataplane sees of them.
#ifndef SLUICE_CONTROLPLANE_MODEL_PASSIVE_HEALTH_H
#define SLUICE_CONTROLPLANE_MODEL_PASSIVE_HEALTH_H

#include <array>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::model {

/// What may count as a failure. With direct return the dataplane sees no answers, only what clients send.
enum class PassiveSignal : uint8_t {
  kUnanswered,     // a TCP connection opened, and none of the backend's has gone on since, for a second
  kRepeatedOpens,  // a SYN again, of a TCP connection that has not gone on
  kUnreachable,    // an ICMP error about a packet to the backend; the only one that UDP has
  kResets,         // a client broke off by RST: many do so when they are done
};
constexpr size_t kPassiveSignals = 4;

/// As the configuration has them, by PassiveSignal.
constexpr std::array<std::string_view, kPassiveSignals> kPassiveSignalNames = {"unanswered", "repeated-opens",
                                                                               "unreachable", "resets"};

struct PassiveHealth {
  std::bitset<kPassiveSignals> signals = 0b0111;  // by PassiveSignal; at least one
  uint32_t consecutive = 5;                       // failures without progress between them; 0: no limit
  uint16_t failure_rate_percent = 50;             // of connections within `window`; 0: no limit
  std::chrono::milliseconds window{30'000};
  uint32_t min_connections = 20;  // in `window`, for the rate to say something
  std::chrono::milliseconds ejection{30'000};
  std::chrono::milliseconds max_ejection{600'000};
  uint16_t max_ejected_percent = 50;  // of the pool's serving backends, one at least and never the last one
  uint32_t probes = 3;                // connections that have to go on for a backend to come back

  bool operator==(const PassiveHealth &) const = default;
};

}  // namespace sluice::model

#endif
