"""A bench that does not run, or reports nothing of use, fails the check."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "checks"))
# Found by the line above.
from bench import run_bench  # noqa: E402
from runner import Runner  # noqa: E402

_GOOD = [{"bench": name, "ns_per_packet": 5.8, "flows": 1} for name in ("worker", "passive", "stages", "xdp", "maglev", "balance")]


class Bench(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def counts(self, output: str, *, status: int = 0, text: str = "") -> tuple[int, int]:
        """Passed and failed cases of a bench that writes `output` to its last argument."""
        program, result = self.directory / "bench", self.directory / "result.json"
        (self.directory / "output").write_text(output, encoding="utf-8")
        program.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {self.directory}/output "$last"\nexit {status}\n',
                           encoding="ascii")
        program.chmod(0o755)
        tally = run_bench(Runner(self.directory, self.directory / "logs"), program, text, result)
        return tally.passed, tally.failed

    def of(self, results: list[dict], text: str = "") -> tuple[int, int]:
        return self.counts(json.dumps({"results": results}), text=text)

    def test_each_bench_is_a_case(self) -> None:
        self.assertEqual(self.of(_GOOD), (6, 0))
        self.assertEqual(self.of(_GOOD, "maglev"), (1, 0))
        self.assertEqual(self.of(_GOOD, "no such"), (0, 0))

    def test_bench_that_fails(self) -> None:
        self.assertEqual(self.counts(json.dumps({"results": _GOOD}), status=1), (0, 1))

    def test_results_that_are_no_json(self) -> None:
        self.assertEqual(self.counts("EAL: started\n{}"), (0, 1))

    def test_bench_without_results(self) -> None:
        self.assertEqual(self.of(_GOOD[1:]), (5, 1))

    def test_least_connection_that_is_uneven(self) -> None:
        for scheduler, largest, counts in (("least-connection", 1.16, (5, 1)), ("least-connection", 1.14, (6, 0)),
                                           ("maglev", 1.16, (6, 0))):
            with self.subTest(scheduler=scheduler, largest=largest):
                uneven = {"bench": "balance", "scheduler": scheduler, "largest_over_mean": largest}
                self.assertEqual(self.of([*_GOOD[:-1], uneven]), counts)

    def test_difference_of_two_times_may_be_below_zero(self) -> None:
        self.assertEqual(self.of([*_GOOD[:-1], {"bench": "balance", "net_ns_per_packet": -1.0}]), (6, 0))
        self.assertEqual(self.of([*_GOOD[:-1], {"bench": "balance", "net_ns_per_packet": None, "ns": 1.0}]), (5, 1))

    def test_result_that_is_no_number(self) -> None:
        for value in (None, float("nan"), -1.0):
            with self.subTest(value):
                self.assertEqual(self.of([*_GOOD[1:], {"bench": "worker", "ns_per_packet": value, "share": 0.5}]), (5, 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
