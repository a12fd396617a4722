// The control path's result type: a value, or an error that names the field and the value.
// Not for the packet path, which answers with verdicts.
#ifndef SLUICE_ABI_RESULT_H
#define SLUICE_ABI_RESULT_H

#include <string>
#include <utility>
#include <variant>

namespace sluice {

/// What went wrong, in words an operator can act on.
struct Error {
  std::string message;
};

/// A `T`, or the `Error` that kept it from being made. Ask `ok()` before `value()`.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  T &value() & { return std::get<0>(state_); }
  const T &value() const & { return std::get<0>(state_); }
  T &&value() && { return std::get<0>(std::move(state_)); }
  const Error &error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// The result of an action that has nothing to return.
struct Done {};
using Status = Result<Done>;

}  // namespace sluice

#endif
