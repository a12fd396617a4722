// The kernel's verifier accepts the core (bpf_seam.c), with room to spare. Needs root.
#include <cstring>
#include <string>
#include <vector>

#include <bpf/libbpf.h>
#include <gtest/gtest.h>

namespace {

constexpr unsigned kMostInstructions = 500000;  // the kernel's limit is a million
constexpr unsigned kStatistics = 4;             // log level

TEST(Bpf, verifier_accepts_the_core_with_half_of_its_limit) {
  std::vector<char> log(1 << 20);
  bpf_object *object = bpf_object__open_file(SLUICE_BPF_OBJECT, nullptr);
  ASSERT_NE(object, nullptr) << std::strerror(errno);
  bpf_program *program = bpf_object__find_program_by_name(object, "seam_program");
  ASSERT_NE(program, nullptr);
  bpf_program__set_log_buf(program, log.data(), log.size());
  bpf_program__set_log_level(program, kStatistics);
  const int error = bpf_object__load(object);
  EXPECT_EQ(error, 0) << std::strerror(-error) << "\n" << log.data();
  bpf_object__close(object);

  const std::string text = log.data();
  const size_t at = text.find("processed ");
  ASSERT_NE(at, std::string::npos) << text;
  const unsigned long instructions = std::stoul(text.substr(at + std::strlen("processed ")));
  RecordProperty("instructions", std::to_string(instructions));
  EXPECT_LE(instructions, kMostInstructions);
}

}  // namespace
