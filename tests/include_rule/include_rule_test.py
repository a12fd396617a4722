"""The tree keeps the include rule; and the checker sees each kind of violation."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from include_rule import check_source, check_tree, sources  # noqa: E402  (found by the line above)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def problems(name: str, text: str) -> list[str]:
    return [violation.text for violation in check_source(name, text)]


class TheTree(unittest.TestCase):
    def test_every_include_points_in_an_allowed_direction(self) -> None:
        self.assertEqual([str(violation) for violation in check_tree(ROOT)], [])

    def test_the_check_sees_the_sources(self) -> None:
        names = {path.relative_to(ROOT).as_posix() for path in sources(ROOT)}
        self.assertIn("dataplane/core/forward.h", names)
        self.assertIn("dataplane/abi/verdicts.def", names)


class TheChecker(unittest.TestCase):
    def test_core_may_include_abi_but_not_the_engine(self) -> None:
        self.assertEqual(problems("dataplane/core/a.h", '#include "dataplane/abi/address.h"\n'), [])
        self.assertEqual(len(problems("dataplane/core/a.h", '#include "dataplane/dpdk/port.h"\n')), 1)

    def test_abi_may_not_include_core(self) -> None:
        self.assertEqual(len(problems("dataplane/abi/a.h", '#include "dataplane/core/hash.h"\n')), 1)

    def test_core_includes_no_library_header(self) -> None:
        self.assertEqual(len(problems("dataplane/core/a.h", "#include <string.h>\n")), 1)

    def test_core_does_not_include_what_only_cxx_reads(self) -> None:
        self.assertEqual(len(problems("dataplane/core/a.h", '#include "dataplane/abi/result.h"\n')), 1)

    def test_server_does_not_include_an_engine(self) -> None:
        self.assertEqual(len(problems("dataplane/server/a.cc", '#include "dataplane/dpdk/port.h"\n')), 1)

    def test_control_plane_does_not_include_the_server_dpdk_or_libbpf(self) -> None:
        self.assertEqual(len(problems("controlplane/api/a.cc", '#include "dataplane/server/server.h"\n')), 1)
        self.assertEqual(len(problems("controlplane/api/a.cc", "#include <rte_mbuf.h>\n")), 1)
        self.assertEqual(len(problems("controlplane/api/a.cc", "#include <bpf/libbpf.h>\n")), 1)

    def test_dataplane_has_no_web_stack(self) -> None:
        self.assertEqual(len(problems("dataplane/server/a.cc", "#include <boost/asio.hpp>\n")), 1)
        self.assertEqual(len(problems("dataplane/dpdk/a.cc", "#include <curl/curl.h>\n")), 1)

    def test_sluicectl_knows_the_api_only(self) -> None:
        self.assertEqual(problems("tools/sluicectl/a.cc", '#include "controlplane/api/types.h"\n'), [])
        self.assertEqual(len(problems("tools/sluicectl/a.cc", '#include "controlplane/model/x.h"\n')), 1)

    def test_nothing_but_tests_and_bench_includes_tests(self) -> None:
        self.assertEqual(len(problems("controlplane/api/a.cc", '#include "tests/server/x.h"\n')), 1)
        self.assertEqual(problems("tests/core/a.cc", '#include "tests/server/x.h"\n'), [])

    def test_names_are_from_the_top_of_the_tree(self) -> None:
        self.assertEqual(len(problems("dataplane/core/a.h", '#include "hash.h"\n')), 1)

    def test_condition_in_core_besides_the_guard(self) -> None:
        guard = "#ifndef SLUICE_CORE_A_H\n#define SLUICE_CORE_A_H\n"
        self.assertEqual(problems("dataplane/core/a.h", guard + "#endif\n"), [])
        self.assertEqual(len(problems("dataplane/core/a.h", guard + "#ifdef __bpf__\n#endif\n#endif\n")), 1)
        self.assertEqual(len(problems("dataplane/core/a.h", "#if defined(__cplusplus)\n#endif\n")), 1)
        self.assertEqual(problems("dataplane/abi/portability.h", "#ifdef __cplusplus\n#endif\n"), [])

    def test_unknown_folder(self) -> None:
        self.assertEqual(len(problems("gadgets/a.h", "")), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
