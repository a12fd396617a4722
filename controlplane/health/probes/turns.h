// A limit on how many checks of a costly kind run at once.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_TURNS_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_TURNS_H

#include <chrono>
#include <cstddef>
#include <list>
#include <utility>  // boost/asio/awaitable.hpp of Boost 1.74 forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace sluice {

/// For coroutines on one loop, which get their turns in the order in which they ask. Outlives the loop.
class Turns {
 public:
  explicit Turns(size_t at_once) : left_(at_once) {}

  /// Held while the check runs.
  class Turn {
   public:
    explicit Turn(Turns *turns) : turns_(turns) {}
    Turn(Turn &&other) noexcept : turns_(std::exchange(other.turns_, nullptr)) {}
    Turn &operator=(Turn &&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->give_back();
    }

   private:
    Turns *turns_;
  };

  boost::asio::awaitable<Turn> take(boost::asio::io_context &loop) {
    if (left_ > 0) {
      left_--;
      co_return Turn(this);
    }
    const Place place(this, loop);
    boost::system::error_code cancelled;  // by whoever gives a turn back
    co_await place.called->async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, cancelled));
    co_return Turn(this);
  }

  /// How many stand in the line.
  size_t waiting() const { return line_.size(); }

 private:
  using Line = std::list<boost::asio::steady_timer>;

  // In the line; leaves it also when the loop ends.
  struct Place {
    Place(Turns *turns_of, boost::asio::io_context &loop)
        : turns(turns_of),
          called(
              turns->line_.emplace(turns->line_.end(), loop, std::chrono::steady_clock::time_point::max())) {}
    ~Place() { turns->line_.erase(called); }
    Place(const Place &) = delete;
    Place &operator=(const Place &) = delete;
    Turns *turns;
    Line::iterator called;
  };

  void give_back() {
    for (boost::asio::steady_timer &waiter : line_) {
      if (waiter.cancel() > 0) return;  // 0: it has been called before, and is about to leave the line
    }
    left_++;
  }

  size_t left_;
  Line line_;
};

}  // namespace sluice

#endif
