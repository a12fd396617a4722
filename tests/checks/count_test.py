"""What the check counts from meson's logs is what happened: its last line must be true."""

import argparse
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "checks"))
# Found by the line above.
import main  # noqa: E402
from meson_steps import count, run_tests  # noqa: E402
from runner import Runner  # noqa: E402
from tally import Tally  # noqa: E402

_SUITE = """<testsuite name="sluice.{test}.{suite}" tests="3">
<testcase name="passes" status="run" classname="{suite}" />
<testcase name="fails" status="run" classname="{suite}"><failure message="no" /></testcase>
<testcase name="skips" status="run" classname="{suite}"><skipped message="no" /></testcase>
</testsuite>"""
_GOOD_SUITE = """<testsuite name="sluice.{test}.{suite}" tests="2">
<testcase name="one" status="run" classname="{suite}" />
<testcase name="two" status="run" classname="{suite}" />
</testsuite>"""


class Count(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.logs = pathlib.Path(directory.name)

    def write(self, suites: str, *tests: dict) -> None:
        (self.logs / "testlog.junit.xml").write_text(f"<testsuites>{suites}</testsuites>", encoding="utf-8")
        lines = "".join(json.dumps(test) + "\n" for test in tests)
        (self.logs / "testlog.json").write_text(lines, encoding="utf-8")

    def assert_counts(self, passed: int, failed: int, skipped: int) -> None:
        tally = count(self.logs)
        self.assertEqual((tally.passed, tally.failed, tally.skipped), (passed, failed, skipped))
        self.assertEqual(len(tally.failures), failed)
        self.assertEqual(len(tally.omissions), skipped)

    def test_cases_of_googletest(self) -> None:
        name = "sluice:unit / parse"
        self.write(_SUITE.format(test=name, suite="Parse"), {"name": name, "result": "FAIL"})
        self.assert_counts(1, 1, 1)

    def test_several_suites_of_one_program(self) -> None:
        name = "sluice:unit / parse"
        suites = _GOOD_SUITE.format(test=name, suite="A") + _GOOD_SUITE.format(test=name, suite="B")
        self.write(suites, {"name": name, "result": "OK"})
        self.assert_counts(4, 0, 0)

    def test_program_that_crashed_before_it_wrote_its_cases(self) -> None:
        self.write("", {"name": "sluice:unit / crash", "result": "FAIL"})
        self.assert_counts(0, 1, 0)

    def test_program_that_failed_after_its_last_case(self) -> None:
        name = "sluice:unit / leaks"
        self.write(_GOOD_SUITE.format(test=name, suite="Leaks"), {"name": name, "result": "FAIL"})
        self.assert_counts(2, 1, 0)

    def test_program_that_ran_out_of_time(self) -> None:
        self.write("", {"name": "sluice:root / slow", "result": "TIMEOUT"})
        self.assert_counts(0, 1, 0)

    def test_cases_of_unittest(self) -> None:
        self.write("", {"name": "sluice:unit / rule", "result": "OK", "stderr": "....\nRan 14 tests in 0.1s\n\nOK\n"})
        self.assert_counts(14, 0, 0)

    def test_programs_without_a_case_are_failures(self) -> None:
        self.write("", {"name": "sluice:unit / rule", "result": "OK", "stderr": "\nRan 0 tests in 0.0s\n\nOK\n"},
                   {"name": "sluice:unit / parse", "result": "OK", "stdout": "[==========] Running 0 tests from 0 test "})
        self.assert_counts(0, 2, 0)

    def test_program_that_is_one_case(self) -> None:
        self.write("", {"name": "sluice:root / script", "result": "OK"})
        self.assert_counts(1, 0, 0)

    def test_skipped_program(self) -> None:
        self.write("", {"name": "sluice:root / script", "result": "SKIP"})
        self.assert_counts(0, 0, 1)


class Nothing(unittest.TestCase):
    """A suite without tests is a failure, unless a filter left none."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.build = pathlib.Path(directory.name)
        (self.build / "meson-info").mkdir()
        tests = [{"name": "parse", "suite": ["sluice:unit"], "depends": []}]
        (self.build / "meson-info" / "intro-tests.json").write_text(json.dumps(tests), encoding="utf-8")

    def tally(self, suite: str, text: str) -> Tally:
        return run_tests(Runner(self.build, self.build / "logs"), self.build, suite, text, 1, {})

    def test_suite_without_tests(self) -> None:
        self.assertEqual(self.tally("root", "").failed, 1)

    def test_filter_that_leaves_none(self) -> None:
        self.assertEqual(self.tally("unit", "no such").failed, 0)


class Status(unittest.TestCase):
    """Of the whole check."""

    @staticmethod
    def good(tally: Tally, **asked: object) -> bool:
        return main.is_good(tally, argparse.Namespace(**{"filter": "", "quick": False, **asked}))

    def test_skipped_test_is_no_success(self) -> None:
        tally = Tally(passed=3)
        self.assertTrue(self.good(tally))
        tally.skips("needs root")
        self.assertFalse(self.good(tally))

    def test_skipped_test_is_forgiven_if_less_was_asked_for(self) -> None:
        tally = Tally(passed=3)
        tally.skips("needs root")
        self.assertTrue(self.good(tally, quick=True))
        self.assertTrue(self.good(tally, filter="parse"))

    def test_failed_test_is_never_forgiven(self) -> None:
        tally = Tally(passed=3)
        tally.fails("parse")
        self.assertFalse(self.good(tally, quick=True, filter="parse"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
