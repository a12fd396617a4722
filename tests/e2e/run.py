#!/usr/bin/python3 -B
"""Runs the end-to-end tests. `sudo tests/e2e/run.py --build build [--filter TEXT]` does by hand what
tools/check does."""

import argparse
import json
import os
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools")]

# Found by the line above.
import harness  # noqa: E402
from testbed.signals import raise_on_signals  # noqa: E402


def select(suite: unittest.TestSuite, text: str) -> unittest.TestSuite:
    """The tests whose full name contains `text`."""
    chosen = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            chosen.addTest(select(test, text))
        elif text in test.id():
            chosen.addTest(test)
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build directory")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only tests whose name contains TEXT")
    parser.add_argument("--result", type=pathlib.Path, help="file that gets the counts as JSON")
    parser.add_argument("--prefix", default=f"t{os.getpid() % 100000}",
                        help="begins the names of the namespaces (default: t and the process number)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("namespaces and XDP programs need root: run this with sudo")
    raise_on_signals()
    harness.configure(arguments.build.resolve(), arguments.prefix)
    suite = select(unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py"), arguments.filter)
    outcome = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    failures = [test.id() for test, _ in (*outcome.failures, *outcome.errors)]
    failures += [test.id() + " (passed, though expected to fail)" for test in outcome.unexpectedSuccesses]
    if arguments.result:
        counts = {"passed": max(0, outcome.testsRun - len(failures) - len(outcome.skipped)),
                  "skipped": len(outcome.skipped), "failures": failures}
        arguments.result.write_text(json.dumps(counts), encoding="utf-8")
    return 0 if outcome.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
