// What a source's coroutine waits on, and others end.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_WAKEUP_H
#define SLUICE_CONTROLPLANE_DISCOVERY_WAKEUP_H

#include <chrono>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace sluice {

/// For one waiter, on its loop's thread. Raised while nobody waits, it ends the next wait at once.
class Signal {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Signal(boost::asio::io_context &io) : timer_(io) {}

  /// Until raise() or `deadline`.
  boost::asio::awaitable<void> wait_until(Clock::time_point deadline) {
    if (!raised_) {
      timer_.expires_at(deadline);
      boost::system::error_code ignored;
      co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }
    raised_ = false;
  }

  void raise() {
    raised_ = true;
    timer_.cancel();
  }

 private:
  boost::asio::steady_timer timer_;
  bool raised_ = false;
};

}  // namespace sluice

#endif
