#!/usr/bin/python3 -B
"""Runs the end-to-end tests. `sudo tests/e2e/run.py --build build [--filter TEXT]` does by hand what
tools/check does."""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import sys
import unittest
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools")]

# Found by the line above.
import harness  # noqa: E402
from testbed.builder import STATE_ROOT, Testbed  # noqa: E402
from testbed.errors import TestbedError  # noqa: E402
from testbed.signals import raise_on_signals, uninterrupted  # noqa: E402

_FAILED_IMPORT = "unittest.loader._FailedTest."  # begins the name of what stands for a module without tests


class EngineLoader(unittest.TestLoader):
    """Loads a class of tests once for each engine that it is for."""

    def loadTestsFromTestCase(self, testCaseClass: type[unittest.TestCase]) -> unittest.TestSuite:
        if not issubclass(testCaseClass, harness.BalancedTestbed):
            return super().loadTestsFromTestCase(testCaseClass)
        return self.suiteClass([super(EngineLoader, self).loadTestsFromTestCase(testCaseClass.on(engine))
                                for engine in testCaseClass.engines])


def select(suite: unittest.TestSuite, text: str) -> unittest.TestSuite:
    """The tests whose full name contains `text`, and modules that could not be imported."""
    chosen = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            chosen.addTest(select(test, text))
        elif text in test.id() or test.id().startswith(_FAILED_IMPORT):
            chosen.addTest(test)
    return chosen


@contextlib.contextmanager
def only_run() -> Iterator[None]:
    """Waits until no other run of these tests goes on. The kernel ends the wait when that one ends, however."""
    STATE_ROOT.mkdir(parents=True, exist_ok=True)
    with open(STATE_ROOT / "e2e-lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run of the end-to-end tests goes on: waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def taken_down(prefix: str) -> Iterator[None]:
    """After the `with`, nothing is left of this prefix. unittest tidies up after failures, not when a signal
    ends it; what a SIGKILL left behind goes before the first test."""
    testbed = Testbed(prefix)
    testbed.refuse_if_owned()
    testbed.down()
    try:
        yield
    finally:
        with uninterrupted():
            testbed.down()


def report(outcome: unittest.TestResult, text: str, result: pathlib.Path | None) -> int:
    """Writes the counts; returns the exit status. Tests that were skipped proved nothing, and no tests
    neither: only who asked for some gets away with it."""
    failures = [test.id() for test, _ in (*outcome.failures, *outcome.errors)]
    failures += [test.id() + " (passed, though expected to fail)" for test in outcome.unexpectedSuccesses]
    skipped = [f"{test.id()}: {reason}" for test, reason in outcome.skipped]
    passed = max(0, outcome.testsRun - len(failures) - len(skipped))
    if not text and passed + len(failures) + len(skipped) == 0:
        failures.append("no tests were found")
    if result:
        counts = {"passed": passed, "skipped": skipped, "failures": failures}
        result.write_text(json.dumps(counts), encoding="utf-8")
    return 1 if failures or (skipped and not text) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build directory")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only tests whose name contains TEXT")
    parser.add_argument("--result", type=pathlib.Path, help="file that gets the counts as JSON")
    parser.add_argument("--prefix", default="e2e", help="begins the names of the namespaces (default: e2e)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("namespaces and XDP programs need root: run this with sudo")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_on_signals()
    harness.configure(arguments.build.resolve(), arguments.prefix)
    try:
        suite = select(EngineLoader().discover(str(HERE), pattern="test_*.py"), arguments.filter)
        with only_run(), taken_down(arguments.prefix):
            outcome = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    except TestbedError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\ne2e: interrupted ({str(interrupt) or 'SIGINT'}); everything is taken down", file=sys.stderr)
        return 130
    return report(outcome, arguments.filter, arguments.result)


if __name__ == "__main__":
    sys.exit(main())
