// Memory such as an engine gives to a region: here a memfd.
#ifndef SLUICE_TESTS_SERVER_MEMORY_H
#define SLUICE_TESTS_SERVER_MEMORY_H

#include <cstdint>
#include <string>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dataplane/server/shared_memory.h"

namespace sluice {

/// `size` bytes of zeros.
inline SharedMemory make_memory(uint64_t size) {
  const UniqueFd memfd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(memfd.get(), static_cast<off_t>(size)), 0);
  Result<Mapping> mapping = map_shared(memfd.get(), size, "test");
  EXPECT_TRUE(mapping.ok()) << mapping.error().message;
  Result<UniqueFd> reader = reopen_for_reading(memfd.get());
  EXPECT_TRUE(reader.ok()) << reader.error().message;
  return {std::move(mapping).value(), std::move(reader).value(), "the engine's memory"};
}

/// The same memory, as a process that comes later has it.
inline SharedMemory same_memory(const SharedMemory &memory) {
  const UniqueFd writable(
      ::open(("/proc/self/fd/" + std::to_string(memory.reader.get())).c_str(), O_RDWR | O_CLOEXEC));
  Result<Mapping> mapping = map_shared(writable.get(), memory.mapping.size(), "test");
  EXPECT_TRUE(mapping.ok()) << mapping.error().message;
  Result<UniqueFd> reader = duplicate_reader(memory);
  EXPECT_TRUE(reader.ok()) << reader.error().message;
  return {std::move(mapping).value(), std::move(reader).value(), memory.name};
}

}  // namespace sluice

#endif
