// A file descriptor that closes itself.
#ifndef SLUICE_CONTROLPLANE_PUBLISH_FILE_DESCRIPTOR_H
#define SLUICE_CONTROLPLANE_PUBLISH_FILE_DESCRIPTOR_H

#include <utility>

#include <unistd.h>

namespace sluice {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor &&other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor &operator=(FileDescriptor &&other) noexcept {
    if (this != &other) reset(std::exchange(other.number_, -1));
    return *this;
  }
  ~FileDescriptor() { reset(); }

  bool valid() const { return number_ >= 0; }
  int get() const { return number_; }

  /// Closes what it holds and holds `number` from now on.
  void reset(int number = -1) {
    if (number_ >= 0) ::close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

}  // namespace sluice

#endif
