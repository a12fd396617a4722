#include "dataplane/xdp/libbpf_log.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(LibbpfLog, the_verifiers_last_word_is_why_it_refused) {
  EXPECT_EQ(refusal_in("prog 'sluice_xdp_miss': -- BEGIN PROG LOAD LOG --\n"
                       "1865: (04) w2 += -1\n"
                       "R1 unbounded memory access, make sure to bounds check any such access\n"
                       "processed 25655 insns (limit 1000000) max_states_per_insn 16\n"
                       "-- END PROG LOAD LOG --\n"),
            "sluice_xdp_miss: \"R1 unbounded memory access, make sure to bounds check any such access\"");
}

TEST(LibbpfLog, other_words_of_libbpf_are_no_refusal) {
  EXPECT_EQ(refusal_in("prog 'sluice_xdp': failed to load: -22\n"), "");
  EXPECT_EQ(refusal_in("prog 'x': -- BEGIN PROG LOAD LOG ---- END PROG LOAD LOG --\n"), "");
  EXPECT_EQ(refusal_in("prog 'x': -- BEGIN PROG LOAD LOG --\nprocessed 1 insns\n-- END PROG LOAD LOG --\n"),
            "");
  EXPECT_EQ(refusal_in(""), "");
}

}  // namespace
}  // namespace sluice
