// The end of a check's time.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_DEADLINE_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_DEADLINE_H

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include <boost/asio/steady_timer.hpp>

namespace sluice {

/// Calls `end_wait` when the time is up, which has to end what the check waits for: by closing its socket.
class Deadline {
 public:
  Deadline(boost::asio::io_context &io, std::chrono::milliseconds time, std::function<void()> end_wait)
      : state_(std::make_shared<State>(State{std::move(end_wait)})), timer_(io, time) {
    // A timer that has run out calls back even if it goes before that: then `state` is gone.
    timer_.async_wait([weak = std::weak_ptr<State>(state_)](const boost::system::error_code &error) {
      const std::shared_ptr<State> state = weak.lock();
      if (error || state == nullptr) return;
      state->expired = true;
      state->end_wait();
    });
  }

  bool expired() const { return state_->expired; }

  /// Of the time.
  std::chrono::milliseconds left() const {
    const auto left = timer_.expiry() - std::chrono::steady_clock::now();
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::duration_cast<std::chrono::milliseconds>(left));
  }

 private:
  struct State {
    std::function<void()> end_wait;
    bool expired = false;
  };
  std::shared_ptr<State> state_;
  boost::asio::steady_timer timer_;
};

}  // namespace sluice

#endif
