"""What tests/e2e/run.py selects and counts is what there is: nothing is lost without a word."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import run  # noqa: E402  (found by the line above)


class Cases(unittest.TestCase):
    """Not for this program's own run: each test ends as its name says."""

    def passes(self) -> None:
        pass

    def fails(self) -> None:
        self.fail("on purpose")

    def skips(self) -> None:
        self.skipTest("on purpose")


class Report(unittest.TestCase):
    def report(self, suite: unittest.TestSuite, text: str = "") -> tuple[int, dict]:
        """The exit status and the counts."""
        outcome = unittest.TestResult()
        run.select(suite, text).run(outcome)
        with tempfile.TemporaryDirectory() as directory:
            result = pathlib.Path(directory) / "result.json"
            status = run.report(outcome, text, result)
            return status, json.loads(result.read_text(encoding="utf-8"))

    def test_passed_and_failed(self) -> None:
        status, counts = self.report(unittest.TestSuite([Cases("passes"), Cases("fails")]))
        self.assertEqual((status, counts["passed"], len(counts["failures"])), (1, 1, 1))

    def test_skipped_test_is_no_success(self) -> None:
        suite = unittest.TestSuite([Cases("passes"), Cases("skips")])
        status, counts = self.report(suite)
        self.assertEqual((status, counts["passed"], counts["failures"]), (1, 1, []))
        self.assertIn("on purpose", counts["skipped"][0])
        self.assertEqual(self.report(unittest.TestSuite([Cases("passes"), Cases("skips")]), "Cases")[0], 0)

    def test_no_tests_are_a_failure_unless_a_filter_left_none(self) -> None:
        status, counts = self.report(unittest.TestSuite())
        self.assertEqual((status, len(counts["failures"])), (1, 1))
        self.assertEqual(self.report(unittest.TestSuite([Cases("passes")]), "no such")[0], 0)

    def test_module_that_cannot_be_imported_fails_under_any_filter(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "test_broken.py").write_text("import no_such_module_anywhere\n", encoding="ascii")
            suite = unittest.TestLoader().discover(directory, pattern="test_*.py")
        status, counts = self.report(suite, "Traffic")
        self.assertEqual(status, 1)
        self.assertIn("test_broken", counts["failures"][0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
