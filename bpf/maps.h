// The maps and global variables of the XDP program. The loader (dataplane/xdp) fills them.
#ifndef SLUICE_BPF_MAPS_H
#define SLUICE_BPF_MAPS_H

// The kernel's types come before libbpf's helpers, which use them.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "bpf/layout.h"

// Global variables: the verifier knows their addresses, so an access is one instruction and needs no lookup.
// All of them are one array map, which the loader maps into its memory.
const volatile struct XdpSettings settings;

struct XdpState state;
struct XdpWorker workers[kXdpMaxWorkers];

// `state.current` says which one packets are decided by.
struct XdpGeneration generations[kXdpGenerations];

// Thirty-two backend identifiers.
struct SlotLine {
  uint16_t slot[kXdpSlotsPerLine];
};

// Slots, settings.slot_lines for each generation: there can be hundreds of megabytes of them, so the loader
// sizes it.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct SlotLine);
} slots SEC(".maps");

// The region of dataplane/abi/connection.h, in elements of one bucket: its header, then the tables.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, union ConnectionBucket);
} connections SEC(".maps");

// The region of dataplane/abi/counters.h: element 0 is its header, element 1 + w belongs to worker w.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct XdpCounters);
} counters SEC(".maps");

// Active connections per backend of all other workers, as last merged: element w is for worker w.
struct OthersActive {
  uint32_t backend[kMaxBackends];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __type(value, struct OthersActive);
} others_active SEC(".maps");

// The interfaces to leave by, by port index.
struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, kXdpMaxPorts);
  __uint(key_size, sizeof(uint32_t));
  __uint(value_size, sizeof(uint32_t));
} ports SEC(".maps");

// The kernel returns from an update of this map only when no program that ran before it still runs: that is
// how the loader knows that nobody reads a generation any more. Nobody looks anything up in it.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, uint32_t);
  __array(
      values, struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __type(key, uint32_t);
        __type(value, uint32_t);
      });
} generation_barrier SEC(".maps");

#endif
