#include "dataplane/dpdk/worker.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "dataplane/core/limits.h"

namespace sluice {
namespace {

constexpr uint32_t kTicksPerSecond = 1000;                         // as core/limits.h counts
constexpr uint32_t kSweepTicks = kSweepPeriodS * kTicksPerSecond;  // ticks for one pass over the table
// Packets for a VIP but no service (ping, refusals, scans) that go to the kernel in a tick: each is a system
// call, and a flood of them must leave a worker most of its core. ARP, multicast and what is for the host's
// own addresses (neighbour discovery, BGP, ssh) are not limited.
constexpr uint32_t kKernelFramesPerTick = 128;
constexpr uint32_t kKernelPollUs = 20;  // between reads of an idle tap: each is a system call
constexpr uint32_t kPatienceUs = 50;
constexpr uint32_t kShortestSleepNs = 10'000;
constexpr uint32_t kLongestSleepNs = 200'000;
constexpr int kMaxSegments = 8;
constexpr uint16_t kPortOfFrame = 0xffff;  // instead of a port: each frame says by which it came

uint32_t boottime_s() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint32_t>(now.tv_sec);
}

/// One frame to the kernel's interface. False when it takes no more.
bool write_frame(int fd, const rte_mbuf *frame) {
  iovec segments[kMaxSegments];
  int count = 0;
  for (const rte_mbuf *segment = frame; segment && count < kMaxSegments; segment = segment->next) {
    segments[count++] = {rte_pktmbuf_mtod(segment, void *), segment->data_len};
  }
  return writev(fd, segments, count) >= 0;
}

}  // namespace

Worker::Worker(WorkerSetup setup)
    : setup_(std::move(setup)),
      tables_(setup_.tables),
      tick_cycles_(rte_get_tsc_hz() / kTicksPerSecond),
      kernel_poll_cycles_(rte_get_tsc_hz() / 1'000'000 * kKernelPollUs),
      patience_cycles_(rte_get_tsc_hz() / 1'000'000 * kPatienceUs),
      sleep_ns_(kShortestSleepNs),
      transmit_batches_(setup_.ports.size()),
      steer_batches_(setup_.inboxes.size()) {
  tables_.adoption_budgets = adoption_budgets_;
  tables_.icmp_reply_budget = &icmp_reply_budget_;
  tables_.displacement_budget = &displacement_budget_;
  tables_.displacement_path = &displacement_path_;
  uint32_t largest = *std::ranges::max_element(tables_.bucket_masks);
  sweep_count_ = std::max(1u, (largest + kSweepTicks) / kSweepTicks);
}

void Worker::run() {
  // Timers of sleeping threads are otherwise up to 50 us late.
  if (setup_.idle == IdlePolicy::kSleep) prctl(PR_SET_TIMERSLACK, 1);
  rte_rcu_qsbr_thread_register(setup_.readers, setup_.index);
  rte_rcu_qsbr_thread_online(setup_.readers, setup_.index);
  uint64_t before = rte_rdtsc();
  last_found_tsc_ = before;
  while (!setup_.stop->load(std::memory_order_relaxed)) {
    uint32_t found = iterate(before);
    if (found > 0) {
      last_found_tsc_ = before;
      sleep_ns_ = kShortestSleepNs;
    } else if (setup_.idle == IdlePolicy::kSleep) {
      rest(before);
    }
    uint64_t now = rte_rdtsc();
    tables_.worker->total_cycles += now - before;
    if (found > 0) tables_.worker->busy_cycles += now - before;
    before = now;
  }
  rte_rcu_qsbr_thread_offline(setup_.readers, setup_.index);
  rte_rcu_qsbr_thread_unregister(setup_.readers, setup_.index);
}

/// One look at everything that can bring frames. Returns how many there were.
uint32_t Worker::iterate(uint64_t now_tsc) {
  take_current_generation();
  if (now_tsc >= next_tick_tsc_) tick(now_tsc);
  uint32_t found = 0;
  auto port_count = static_cast<uint16_t>(setup_.ports.size());
  for (uint16_t port = 0; port < port_count; port++) found += poll_port(port);
  if (!setup_.inboxes.empty()) found += poll_inbox();
  if (now_tsc >= next_kernel_poll_tsc_) {
    uint32_t from_kernel = 0;
    for (uint16_t port = 0; port < port_count; port++) from_kernel += poll_kernel(port);
    // While the kernel has something to send, it is asked at every turn.
    next_kernel_poll_tsc_ = from_kernel > 0 ? now_tsc : now_tsc + kernel_poll_cycles_;
    found += from_kernel;
  }
  rte_rcu_qsbr_quiescent(setup_.readers, setup_.index);
  return found;
}

void Worker::take_current_generation() {
  const Generation *current = setup_.generation->load(std::memory_order_acquire);
  if (unlikely(current == nullptr) || likely(current->serial == generation_serial_)) return;
  generation_serial_ = current->serial;
  take_generation(*current, &tables_);
}

uint32_t Worker::poll_port(uint16_t port) {
  const WorkerPort &from = setup_.ports[port];
  bool steered = from.steered && generation_serial_ != 0;
  uint32_t found = 0;
  for (const DeviceQueue &queue : from.receive) {
    rte_mbuf *frames[kBurstSize];
    uint32_t count = rte_eth_rx_burst(queue.device, queue.queue, frames, kBurstSize);
    if (count == 0) continue;
    found += count;
    tables_.worker->received_packets += count;
    if (steered) {
      tables_.worker->received_bytes += steer(frames, &count, port);
      if (count > 0) process(frames, count, port);
    } else {
      tables_.worker->received_bytes += process(frames, count, port);
    }
  }
  return found;
}

uint32_t Worker::poll_inbox() {
  rte_mbuf *frames[kBurstSize];
  uint32_t count = rte_ring_dequeue_burst(setup_.inboxes[setup_.index], reinterpret_cast<void **>(frames),
                                          kBurstSize, nullptr);
  if (count > 0) process(frames, count, kPortOfFrame);
  return count;
}

/// Hands frames to the workers that own them. Keeps its own, `count` of them then, at the front of
/// `frames`. Returns the bytes of all.
uint64_t Worker::steer(rte_mbuf **frames, uint32_t *count, uint16_t port) {
  auto workers = static_cast<uint32_t>(setup_.inboxes.size());
  uint64_t bytes = 0;
  uint32_t own = 0;
  for (uint32_t i = 0; i < *count; i++) {
    bytes += frames[i]->pkt_len;
    frames[i]->port = port;  // the logical port's index, for the worker that takes it
    uint32_t owner = owner_of_frame(tables_, frames[i], workers, setup_.index);
    if (owner == setup_.index) {
      frames[own++] = frames[i];
    } else {
      SteerBatch &batch = steer_batches_[owner];
      batch.frames[batch.count++] = frames[i];
    }
  }
  for (uint32_t owner = 0; owner < workers; owner++) {
    if (steer_batches_[owner].count > 0) hand_over(owner);
  }
  *count = own;
  return bytes;
}

void Worker::hand_over(uint32_t owner) {
  SteerBatch &batch = steer_batches_[owner];
  uint32_t taken = rte_ring_enqueue_burst(setup_.inboxes[owner], reinterpret_cast<void **>(batch.frames),
                                          batch.count, nullptr);
  tables_.worker->steered_packets += taken;
  tables_.worker->verdict_packets[kVerdictDropSteeringQueueFull] += batch.count - taken;
  rte_pktmbuf_free_bulk(batch.frames + taken, batch.count - taken);
  batch.count = 0;
}

/// Decides a burst and sends each frame on its way. `port` is the one that all came by, or kPortOfFrame.
/// Returns the bytes received.
uint64_t Worker::process(rte_mbuf **frames, uint32_t count, uint16_t port) {
  FrameResult results[kBurstSize];
  if (unlikely(generation_serial_ == 0)) return pass_all(frames, count, port);
  BurstResult burst = run_burst(tables_, frames, count, now_s_, results);
  if (likely(burst.common_port < setup_.ports.size())) {
    transmit_frames(burst.common_port, frames, results, count, burst.transmitted_bytes);
  } else {
    dispatch(frames, results, count, port);
  }
  return burst.received_bytes;
}

/// Without a snapshot everything is the kernel's.
uint64_t Worker::pass_all(rte_mbuf **frames, uint32_t count, uint16_t port) {
  FrameResult results[kBurstSize];
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    results[i] = {{nullptr, 0, 0, kVerdictPassNoSnapshot, 0}, frames[i]->pkt_len, kNoPort};
    bytes += frames[i]->pkt_len;
  }
  dispatch(frames, results, count, port);
  return bytes;
}

/// Sends each frame where its verdict says, and counts what became of it.
void Worker::dispatch(rte_mbuf **frames, FrameResult *results, uint32_t count, uint16_t port) {
  rte_mbuf *done[kBurstSize];
  uint32_t done_count = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint16_t arrival = port == kPortOfFrame ? frames[i]->port : port;
    auto verdict = static_cast<Verdict>(results[i].verdict);
    switch (verdict_class(verdict)) {
      case kVerdictClassReply:
        results[i].port = arrival;
        [[fallthrough]];
      case kVerdictClassForward:
        add_to_batch(frames[i], results[i]);
        break;
      case kVerdictClassPass:
        pass_to_kernel(frames[i], results[i], arrival);
        done[done_count++] = frames[i];
        break;
      case kVerdictClassDrop:
        count_frame(tables_, results[i], verdict);
        done[done_count++] = frames[i];
        break;
    }
  }
  for (uint16_t to = 0; to < static_cast<uint16_t>(transmit_batches_.size()); to++) {
    TransmitBatch &batch = transmit_batches_[to];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < batch.count; i++) bytes += batch.frames[i]->pkt_len;
    if (batch.count > 0) transmit_frames(to, batch.frames, batch.results, batch.count, bytes);
    batch.count = 0;
  }
  rte_pktmbuf_free_bulk(done, done_count);
}

void Worker::add_to_batch(rte_mbuf *frame, const FrameResult &result) {
  if (unlikely(result.port >= transmit_batches_.size())) {
    count_frame(tables_, result, kVerdictDropInternal);
    rte_pktmbuf_free(frame);
    return;
  }
  TransmitBatch &batch = transmit_batches_[result.port];
  batch.frames[batch.count] = frame;
  batch.results[batch.count] = result;
  batch.count++;
}

/// Sends `count` frames of `bytes` out of a port, and counts those that it took and those that it did not.
void Worker::transmit_frames(uint16_t port, rte_mbuf **frames, const FrameResult *results, uint32_t count,
                             uint64_t bytes) {
  uint32_t sent = transmit(setup_.ports[port].transmit, frames, count);
  for (uint32_t i = 0; i < sent; i++)
    count_frame(tables_, results[i], static_cast<Verdict>(results[i].verdict));
  for (uint32_t i = sent; i < count; i++) {
    count_frame(tables_, results[i], kVerdictDropTransmitQueueFull);
    bytes -= frames[i]->pkt_len;
  }
  tables_.worker->transmitted_packets += sent;
  tables_.worker->transmitted_bytes += bytes;
  if (unlikely(sent < count)) rte_pktmbuf_free_bulk(frames + sent, count - sent);
}

void Worker::pass_to_kernel(rte_mbuf *frame, const FrameResult &result, uint16_t port) {
  auto verdict = static_cast<Verdict>(result.verdict);
  if (verdict == kVerdictPassNoService || verdict == kVerdictPassOtherProtocol) {
    if (kernel_budget_ == 0) {
      count_frame(tables_, result, kVerdictDropKernelLimit);
      return;
    }
    kernel_budget_--;
  }
  int fd = port < setup_.ports.size() ? setup_.ports[port].kernel_fd : -1;
  bool accepted = fd >= 0 && write_frame(fd, frame);
  count_frame(tables_, result, accepted ? verdict : kVerdictDropKernelQueueFull);
}

/// Frames that the kernel sends by a port's tap go out by the port.
uint32_t Worker::poll_kernel(uint16_t port) {
  const WorkerPort &from = setup_.ports[port];
  if (from.kernel_fd < 0) return 0;
  rte_mbuf *frames[kBurstSize];
  uint32_t count = 0;
  while (count < kBurstSize) {
    rte_mbuf *frame = rte_pktmbuf_alloc(setup_.pool);
    if (unlikely(frame == nullptr)) break;
    ssize_t length = read(from.kernel_fd, rte_pktmbuf_mtod(frame, void *), rte_pktmbuf_tailroom(frame));
    if (length <= 0) {
      rte_pktmbuf_free(frame);
      break;
    }
    frame->data_len = static_cast<uint16_t>(length);
    frame->pkt_len = static_cast<uint32_t>(length);
    frames[count++] = frame;
  }
  if (count == 0) return 0;
  uint32_t sent = transmit(from.transmit, frames, count);
  tables_.worker->kernel_packets += sent;
  rte_pktmbuf_free_bulk(frames + sent, count - sent);
  return count;
}

/// Returns how many of `frames`, from the first on, the port took.
uint32_t Worker::transmit(const TransmitQueue &to, rte_mbuf **frames, uint32_t count) {
  if (to.lock) rte_spinlock_lock(to.lock);
  uint32_t sent = rte_eth_tx_burst(to.queue.device, to.queue.queue, frames, static_cast<uint16_t>(count));
  // A full ring is emptied by the attempt itself with drivers that complete on the way in: ask once more.
  if (unlikely(sent < count)) {
    sent +=
        rte_eth_tx_burst(to.queue.device, to.queue.queue, frames + sent, static_cast<uint16_t>(count - sent));
  }
  if (to.lock) rte_spinlock_unlock(to.lock);
  return sent;
}

void Worker::tick(uint64_t now_tsc) {
  next_tick_tsc_ = now_tsc + tick_cycles_;
  now_s_ = boottime_s();
  for (uint32_t &budget : adoption_budgets_) budget = kAdoptionTablesPerMs;
  displacement_budget_ = kDisplacementStepsPerMs;
  kernel_budget_ = kKernelFramesPerTick;
  icmp_reply_budget_ = std::min<uint32_t>(icmp_reply_budget_ + kIcmpRepliesPerMs, kIcmpReplyBurst);
  if (generation_serial_ != 0) sweep_buckets(tables_, &sweep_cursor_, sweep_count_, now_s_);
}

/// Sleeps once nothing has come for a while: shortly at first, so that a pause between bursts costs
/// little delay, then longer.
void Worker::rest(uint64_t now_tsc) {
  if (now_tsc - last_found_tsc_ < patience_cycles_) return;
  timespec length = {0, static_cast<long>(sleep_ns_)};
  rte_rcu_qsbr_thread_offline(setup_.readers, setup_.index);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);
  rte_rcu_qsbr_thread_online(setup_.readers, setup_.index);
  sleep_ns_ = std::min(sleep_ns_ * 2, kLongestSleepNs);
}

}  // namespace sluice
