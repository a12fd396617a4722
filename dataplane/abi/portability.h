// The one place where the languages and targets that read the ABI and the core may differ:
// C++20 (control plane, DPDK engine, tests) and C11 for the BPF target.
#ifndef SLUICE_ABI_PORTABILITY_H
#define SLUICE_ABI_PORTABILITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SLUICE_NAMESPACE_BEGIN namespace sluice {
#define SLUICE_NAMESPACE_END }
#define SLUICE_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define SLUICE_NAMESPACE_BEGIN
#define SLUICE_NAMESPACE_END
#define SLUICE_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define SLUICE_INLINE static inline __attribute__((always_inline))
#define SLUICE_NOINLINE static __attribute__((noinline, unused))
// A function that the BPF verifier checks once by itself, not anew at each call. It must be global there,
// take at most five numbers and pointers to plain memory, and check the pointers. The second is for one that
// is inlined on hosts.
#ifdef __bpf__
#define SLUICE_SUBPROGRAM __attribute__((noinline))
#define SLUICE_INLINE_SUBPROGRAM SLUICE_SUBPROGRAM
#else
#define SLUICE_SUBPROGRAM SLUICE_NOINLINE
#define SLUICE_INLINE_SUBPROGRAM SLUICE_INLINE
#endif
// A function for what is rare: out of the way of what is not. The BPF programs keep what is rare apart by
// themselves, and a call costs more there than the place.
#ifdef __bpf__
#define SLUICE_RARE SLUICE_INLINE
#else
#define SLUICE_RARE SLUICE_NOINLINE
#endif
// Lets the compiler forget what it knows of a number, and so keep the mask that bounds it: the verifier of
// Linux 6.1 knows less of shifts and ORs.
#ifdef __bpf__
#define SLUICE_FORGET(number) __asm__("" : "+r"(number))
#else
#define SLUICE_FORGET(number) ((void)(number))
#endif
#define SLUICE_LIKELY(x) __builtin_expect(!!(x), 1)
#define SLUICE_UNLIKELY(x) __builtin_expect(!!(x), 0)

// In front of a loop: to be unrolled whole (of at most 8 turns), or not at all.
#ifdef __clang__
#define SLUICE_UNROLL _Pragma("clang loop unroll(full)")
#define SLUICE_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define SLUICE_UNROLL _Pragma("GCC unroll 8")
#define SLUICE_NO_UNROLL _Pragma("GCC unroll 1")
#endif

// Words of a packet, at any address. clang's BPF target takes an access apart into bytes unless its type says
// that it is aligned; the CPUs that BPF programs run on here take it whole (the verifier knows).
#ifdef __bpf__
#define SLUICE_UNALIGNED __attribute__((may_alias))
#else
#define SLUICE_UNALIGNED __attribute__((may_alias, aligned(1)))
#endif

// One 64-bit word that another thread reads. The BPF target has no atomic load or store; its CPUs
// here (x86) keep the order of plain ones, so that keeping the compiler from reordering is enough.
#ifdef __bpf__
#define SLUICE_STORE_RELEASE(pointer, value)   \
  do {                                         \
    __asm__ __volatile__("" ::: "memory");     \
    *(volatile uint64_t *)(pointer) = (value); \
  } while (0)
#define SLUICE_LOAD_ACQUIRE(pointer) (*(const volatile uint64_t *)(pointer))
#define SLUICE_RELEASE_FENCE() __asm__ __volatile__("" ::: "memory")
#else
#define SLUICE_STORE_RELEASE(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define SLUICE_LOAD_ACQUIRE(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define SLUICE_RELEASE_FENCE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

// Finds an entry in a cache line of entries of `width` words, 2 or 4: the index of its last word, or -1. At
// most one entry equals `pattern`, which has four words (an entry of two, twice); of an entry's last word
// only the bits of `last_mask` count. Without branches: which entry it is cannot be predicted.
#ifdef __AVX2__
typedef uint64_t SluiceFourWords __attribute__((vector_size(32), aligned(8), may_alias));

SLUICE_INLINE int sluice_find_entry(const uint64_t *line, const uint64_t *pattern, uint64_t last_mask,
                                    uint32_t width) {
  uint64_t a = pattern[0], b = pattern[1], c = pattern[2], d = pattern[3];
  // From registers: the pattern has been written word by word just now, and narrow stores do not reach a
  // wider load that soon follows, and stall it.
  __asm__("" : "+r"(a), "+r"(b));
  if (width == 2) {
    c = a;
    d = b;
  } else {
    __asm__("" : "+r"(c), "+r"(d));
  }
  SluiceFourWords wanted = {a, b, c, d};
  SluiceFourWords mask = {~0ull, width == 2 ? last_mask : ~0ull, ~0ull, last_mask};
  typedef double Lanes __attribute__((vector_size(32)));
  SluiceFourWords low = (*(const SluiceFourWords *)line ^ wanted) & mask;
  SluiceFourWords high = (*(const SluiceFourWords *)(line + 4) ^ wanted) & mask;
  uint32_t equal = (uint32_t)__builtin_ia32_movmskpd256((Lanes)(low == 0)) |
                   (uint32_t)__builtin_ia32_movmskpd256((Lanes)(high == 0)) << 4;
  equal &= equal >> 1;  // bit of each word that equals, as the one behind it does
  equal &= width == 2 ? 0x55u : (equal >> 2) & 0x11u;
  return equal != 0 ? __builtin_ctz(equal) + (int)width - 1 : -1;
}
#else
SLUICE_INLINE int sluice_find_entry(const uint64_t *line, const uint64_t *pattern, uint64_t last_mask,
                                    uint32_t width) {
  SLUICE_UNROLL
  for (uint32_t last = width - 1; last < 8; last += width) {
    if (SLUICE_LIKELY((uint32_t)line[last] != (uint32_t)pattern[3])) continue;
    uint64_t difference = (line[last] ^ pattern[3]) & last_mask;
    difference |= line[last - 1] ^ pattern[2];
    if (width == 4) difference |= (line[last - 2] ^ pattern[1]) | (line[last - 3] ^ pattern[0]);
    if (difference == 0) return (int)last;
  }
  return -1;
}
#endif

SLUICE_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
                     "the records and the core assume a little-endian host");

#endif
