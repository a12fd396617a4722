#include "controlplane/health/probes/tls_contexts.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

namespace sluice {
namespace {

using namespace std::chrono_literals;

class TlsContextsTest : public testing::Test {
 protected:
  TlsContextsTest() {
    std::ofstream(file_) << "no certificate\n";
    watch_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(watch_, file_.c_str(), IN_OPEN);
  }
  ~TlsContextsTest() override {
    close(watch_);
    std::remove(file_.c_str());
  }

  // Since it was asked last.
  bool file_was_opened() const {
    std::array<char, 4096> events{};
    return read(watch_, events.data(), events.size()) > 0;
  }

  model::TlsOptions of_file() const {
    model::TlsOptions options;
    options.ca_file = file_;
    return options;
  }

  const std::string file_ = testing::TempDir() + "/tls_contexts_test." + std::to_string(getpid()) + ".pem";
  int watch_ = -1;
  TlsContexts contexts_;
  TlsContexts::Clock::time_point now_ = TlsContexts::Clock::now();
};

TEST_F(TlsContextsTest, bad_file_is_not_read_again_for_each_check) {
  const auto first = contexts_.get(of_file(), now_);
  ASSERT_FALSE(first.ok());
  EXPECT_TRUE(file_was_opened());
  const auto second = contexts_.get(of_file(), now_ + 100ms);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message, first.error().message);
  EXPECT_FALSE(file_was_opened());
}

TEST_F(TlsContextsTest, bad_file_is_read_again_when_it_has_changed) {
  ASSERT_FALSE(contexts_.get(of_file(), now_).ok());
  std::remove(file_.c_str());
  const auto without = contexts_.get(of_file(), now_);
  ASSERT_FALSE(without.ok());
  EXPECT_EQ(without.error().message, "ca_file " + file_ + ": No such file or directory");
}

// A shortage of this host may have been the reason.
TEST_F(TlsContextsTest, bad_file_is_read_again_after_a_while) {
  ASSERT_FALSE(contexts_.get(of_file(), now_).ok());
  EXPECT_TRUE(file_was_opened());
  ASSERT_FALSE(contexts_.get(of_file(), now_ + 1min).ok());
  EXPECT_TRUE(file_was_opened());
}

TEST_F(TlsContextsTest, settings_that_no_check_uses_any_more_are_dropped) {
  model::TlsOptions used;
  used.verify = false;
  model::TlsOptions unused = used;
  unused.min_version = model::TlsVersion::kTls13;
  const std::weak_ptr<boost::asio::ssl::context> kept = contexts_.get(used, now_).value();
  const std::weak_ptr<boost::asio::ssl::context> dropped = contexts_.get(unused, now_).value();
  for (int minutes = 0; minutes <= 180; minutes += 30) {
    ASSERT_TRUE(contexts_.get(used, now_ + std::chrono::minutes(minutes)).ok());
  }
  EXPECT_FALSE(kept.expired());
  EXPECT_TRUE(dropped.expired());
}

}  // namespace
}  // namespace sluice
