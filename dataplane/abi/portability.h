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
// take at most five numbers and pointers to plain memory, and check the pointers.
#ifdef __bpf__
#define SLUICE_SUBPROGRAM __attribute__((noinline))
#else
#define SLUICE_SUBPROGRAM SLUICE_NOINLINE
#endif
#define SLUICE_LIKELY(x) __builtin_expect(!!(x), 1)
#define SLUICE_UNLIKELY(x) __builtin_expect(!!(x), 0)

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
// 1 if the 64-bit value is 0, else 0, without a branch: BPF has no conditional set or move.
#define SLUICE_IS_ZERO(value) ((int)((((value) | (0 - (value))) >> 63) ^ 1))
#else
#define SLUICE_IS_ZERO(value) ((int)((value) == 0))
#define SLUICE_STORE_RELEASE(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define SLUICE_LOAD_ACQUIRE(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define SLUICE_RELEASE_FENCE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

SLUICE_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
                     "the records and the core assume a little-endian host");

#endif
