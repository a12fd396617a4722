// Holds the core to the subset of C that becomes a BPF program: compiled as C11 for the BPF target by
// the test core_bpf_compiles, and loaded, so that the kernel's verifier has its say, by core_bpf_loads.
// Its seam is over plain array maps. It is no engine: nothing fills the maps.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "dataplane/core/forward.h"

enum SeamSizes {
  kSeamVips = 1024,
  kSeamPortRanges = 1024,
  kSeamServices = 256,
  kSeamSlots = 65536,
  kSeamBackends = 1024,
  kSeamBuckets = 4096,
  kSeamPeers = 2
};

// What is not a table of records.
struct SeamState {
  struct FlowHashKey flow_hash_key;
  uint32_t vip_mask;
  uint32_t adoption_budgets[kAdoptionLimitCount];
  uint32_t icmp_reply_budget;
  uint32_t now_s;
  uint32_t peer_count;
  uint64_t events[3];
};

// Empty: a function that the verifier checks by itself may be given no pointer but to plain memory, so
// what is not a table of records is a global variable, and each seam function finds its map anew.
struct Tables {
  uint8_t unused;
};

struct SeamState seam_state;

#define SEAM_ARRAY(name, record, entries) \
  struct {                                \
    __uint(type, BPF_MAP_TYPE_ARRAY);     \
    __uint(max_entries, entries);         \
    __type(key, uint32_t);                \
    __type(value, record);                \
  } name SEC(".maps")

SEAM_ARRAY(seam_vips, struct Vip, kSeamVips);
SEAM_ARRAY(seam_port_ranges, struct PortRange, kSeamPortRanges);
SEAM_ARRAY(seam_services, struct Service, kSeamServices);
SEAM_ARRAY(seam_slots, uint16_t, kSeamSlots);
SEAM_ARRAY(seam_backends, struct Backend, kSeamBackends);
SEAM_ARRAY(seam_egress, struct Egress, kSeamBackends);
SEAM_ARRAY(seam_active, uint32_t, kSeamBackends);
SEAM_ARRAY(seam_ipv4_buckets, union ConnectionBucket, kSeamBuckets);
SEAM_ARRAY(seam_ipv6_buckets, union ConnectionBucket, kSeamBuckets);
SEAM_ARRAY(seam_peer_ipv4_buckets, union ConnectionBucket, kSeamBuckets *kSeamPeers);
SEAM_ARRAY(seam_peer_ipv6_buckets, union ConnectionBucket, kSeamBuckets *kSeamPeers);

SLUICE_INLINE const struct FlowHashKey *tables_flow_hash_key(const struct Tables *tables) {
  (void)tables;
  return &seam_state.flow_hash_key;
}
SLUICE_INLINE uint32_t tables_vip_mask(const struct Tables *tables) {
  (void)tables;
  return seam_state.vip_mask;
}
SLUICE_INLINE const struct Vip *tables_vip(const struct Tables *tables, uint32_t index) {
  (void)tables;
  return bpf_map_lookup_elem(&seam_vips, &index);
}
SLUICE_INLINE const struct PortRange *tables_port_range(const struct Tables *tables, uint32_t index) {
  (void)tables;
  return bpf_map_lookup_elem(&seam_port_ranges, &index);
}
SLUICE_INLINE const struct Service *tables_service(const struct Tables *tables, uint32_t index) {
  (void)tables;
  return bpf_map_lookup_elem(&seam_services, &index);
}
SLUICE_INLINE uint16_t tables_slot(const struct Tables *tables, uint32_t index) {
  (void)tables;
  const uint16_t *slot = bpf_map_lookup_elem(&seam_slots, &index);
  return slot ? *slot : 0;
}
SLUICE_INLINE const struct Backend *tables_backend(const struct Tables *tables, uint16_t backend) {
  (void)tables;
  uint32_t index = backend;
  return bpf_map_lookup_elem(&seam_backends, &index);
}
SLUICE_INLINE const struct Egress *tables_egress(const struct Tables *tables, uint16_t backend) {
  (void)tables;
  uint32_t index = backend;
  return bpf_map_lookup_elem(&seam_egress, &index);
}

SLUICE_INLINE uint32_t tables_bucket_mask(const struct Tables *tables, uint8_t family) {
  (void)tables;
  (void)family;
  return kSeamBuckets - 1;
}
SLUICE_INLINE union ConnectionBucket *tables_bucket(const struct Tables *tables, uint8_t family,
                                                    uint32_t index) {
  if (!tables) return 0;  // a use of it, without which the compiler passes rubbish
  if (family == kFamilyIpv4) return bpf_map_lookup_elem(&seam_ipv4_buckets, &index);
  return bpf_map_lookup_elem(&seam_ipv6_buckets, &index);
}
SLUICE_INLINE uint32_t tables_peer_count(const struct Tables *tables) {
  (void)tables;
  return seam_state.peer_count;
}
SLUICE_INLINE const union ConnectionBucket *tables_peer_bucket(const struct Tables *tables, uint32_t peer,
                                                               uint8_t family, uint32_t index) {
  if (!tables) return 0;
  index += peer * kSeamBuckets;
  if (family == kFamilyIpv4) return bpf_map_lookup_elem(&seam_peer_ipv4_buckets, &index);
  return bpf_map_lookup_elem(&seam_peer_ipv6_buckets, &index);
}

SLUICE_INLINE bool seam_take(uint32_t *budget) {
  if (*budget == 0) return false;
  *budget -= 1;
  return true;
}
SLUICE_INLINE bool tables_take_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit) {
  (void)tables;
  return seam_take(&seam_state.adoption_budgets[limit == kAdoptionOfTcp ? 0 : 1]);
}
SLUICE_INLINE void tables_return_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit) {
  (void)tables;
  seam_state.adoption_budgets[limit == kAdoptionOfTcp ? 0 : 1] += 1;
}
// Never: the walk for room is left out here. It compiles, but its path and the frames before it are more
// than the 512 bytes of stack, and its loops more than a million steps of the verifier.
SLUICE_INLINE bool tables_take_displacement_step(const struct Tables *tables) {
  (void)tables;
  return false;
}
SLUICE_INLINE bool tables_take_icmp_reply(const struct Tables *tables) {
  (void)tables;
  return seam_take(&seam_state.icmp_reply_budget);
}

SLUICE_INLINE uint32_t tables_active_connections(const struct Tables *tables, uint16_t backend) {
  (void)tables;
  uint32_t index = backend;
  const uint32_t *active = bpf_map_lookup_elem(&seam_active, &index);
  return active ? *active : 0;
}
SLUICE_INLINE void tables_connection_opened(const struct Tables *tables, uint16_t backend) {
  (void)tables;
  uint32_t index = backend;
  uint32_t *active = bpf_map_lookup_elem(&seam_active, &index);
  if (active) *active += 1;
}
SLUICE_INLINE void tables_connection_closed(const struct Tables *tables, uint16_t backend) {
  (void)tables;
  uint32_t index = backend;
  uint32_t *active = bpf_map_lookup_elem(&seam_active, &index);
  if (active && *active > 0) *active -= 1;
}
SLUICE_INLINE void tables_count_event(const struct Tables *tables, enum TableEvent event) {
  (void)tables;
  seam_state.events[event] += 1;
}

// The packet is not on the stack, of which there are 512 bytes for all functions of the way.
SEAM_ARRAY(seam_packet, struct Packet, 1);

enum { kOuterHeaders = kEthernetHeaderSize + kIpv6HeaderSize, kInnerHeader = 40 };

// decide() and encapsulate(), as an XDP program composes them.
SEC("xdp")
int seam_program(struct xdp_md *context) {
  struct Tables tables = {0};
  uint32_t zero = 0;
  struct Packet *packet = bpf_map_lookup_elem(&seam_packet, &zero);
  if (!packet) return XDP_PASS;
  struct Decision decision;
  struct Frame frame = {(const uint8_t *)(long)context->data, (const uint8_t *)(long)context->data_end, 0};
  frame.length = (uint32_t)(frame.end - frame.start);
  decide(&tables, &frame, seam_state.now_s, packet, &decision);
  enum VerdictClass kind = verdict_class((enum Verdict)decision.verdict);
  if (kind == kVerdictClassPass) return XDP_PASS;
  if (kind != kVerdictClassForward) return XDP_DROP;
  const struct Egress *egress = decision.egress;
  if (!egress) return XDP_DROP;

  int growth = (int)(kEthernetHeaderSize + egress->outer_size) - packet->l3_offset;
  if (bpf_xdp_adjust_head(context, -growth) != 0) return XDP_DROP;
  uint8_t *start = (uint8_t *)(long)context->data;
  if (start + kOuterHeaders + kInnerHeader > (uint8_t *)(long)context->data_end) return XDP_DROP;
  encapsulate(start, egress, packet);
  return XDP_TX;
}

char seam_license[] SEC("license") = "GPL";
