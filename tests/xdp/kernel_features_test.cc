// What is asked of this kernel is what programs can then do. Needs root.
#include "dataplane/xdp/kernel_features.h"

#include <cstdio>

#include <gtest/gtest.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace sluice {
namespace {

TEST(KernelFeatures, this_kernel_has_all_and_gives_its_release) {
  const Result<KernelFeatures> kernel = probe_kernel();
  ASSERT_TRUE(kernel.ok()) << kernel.error().message;
  utsname name = {};
  ASSERT_EQ(::uname(&name), 0);
  EXPECT_EQ(kernel.value().release, name.release);
  EXPECT_EQ(kernel.value().lacks, "");
  EXPECT_TRUE(kernel.value().several_buffers);
  EXPECT_TRUE(kernel.value().live_frames);
}

TEST(KernelFeatures, without_the_permission_to_try_it_is_an_error_that_says_so) {
  EXPECT_EXIT(
      {
        if (::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
        const Result<KernelFeatures> kernel = probe_kernel();
        std::fputs(kernel.ok() ? "no error" : kernel.error().message.c_str(), stderr);
        ::_exit(1);
      },
      testing::ExitedWithCode(1), "it needs root");
}

}  // namespace
}  // namespace sluice
