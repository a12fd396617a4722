// Random numbers for worlds and packets: the same from the same seed, whatever the standard library.
#ifndef SLUICE_TESTS_PARITY_RANDOM_H
#define SLUICE_TESTS_PARITY_RANDOM_H

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>

namespace sluice {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint32_t word() { return static_cast<uint32_t>(engine_() >> 32); }
  uint8_t byte() { return static_cast<uint8_t>(word()); }

  /// A number below `count`, which is not 0.
  uint32_t below(size_t count) { return static_cast<uint32_t>(uint64_t{word()} * count >> 32); }

  uint32_t between(uint32_t first, uint32_t last) { return first + below(size_t{last} - first + 1); }

  /// True in so many of a hundred cases.
  bool chance(uint32_t percent) { return below(100) < percent; }

  template <typename T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(values.size())];
  }

  template <typename Container>
  const auto &any_of(const Container &container) {
    return container[below(container.size())];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace sluice

#endif
