// Slot tables have a prime number of slots, so that every stride through one visits every slot.
#ifndef SLUICE_CONTROLPLANE_MODEL_PRIME_H
#define SLUICE_CONTROLPLANE_MODEL_PRIME_H

#include <cstdint>

namespace sluice {

/// By trial division: for numbers up to some millions.
constexpr bool is_prime(uint32_t number) {
  if (number < 4) return number >= 2;
  if (number % 2 == 0) return false;
  for (uint64_t divisor = 3; divisor * divisor <= number; divisor += 2) {
    if (number % divisor == 0) return false;
  }
  return true;
}

}  // namespace sluice

#endif
