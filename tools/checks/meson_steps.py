"""Building with meson, and running and counting what `meson test` runs."""

import json
import pathlib
import re
import xml.etree.ElementTree

from runner import Runner
from tally import Tally

_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_NO_CASES = re.compile(r"^\[=+\] Running 0 tests ", re.MULTILINE)
_GOOD_RESULTS = {"OK", "EXPECTEDFAIL"}
_TIMEOUT_MULTIPLIER = "3"


def build(runner: Runner, name: str, directory: pathlib.Path, options: list[str], targets: list[str],
          environment: dict[str, str]) -> Tally:
    """Configures `directory` (anew if meson cannot go on with it) and builds; one test case."""
    tally = Tally()
    setup = ["meson", "setup", directory, *options]
    if (directory / "meson-private" / "coredata.dat").exists():
        setup.insert(2, "--reconfigure")
    if runner.run(f"{name}-setup", setup, environment=environment, quiet="--reconfigure" in setup) != 0:
        if "--reconfigure" not in setup:
            tally.fails(f"{name}: meson setup")
            return tally
        setup[2] = "--wipe"
        if runner.run(f"{name}-setup", setup, environment=environment) != 0:
            tally.fails(f"{name}: meson setup")
            return tally
    if runner.run(name, ["ninja", "-C", directory, *targets], environment=environment) != 0:
        tally.fails(f"{name}: does not build (log: {runner.log(name)})")
        return tally
    tally.passes()
    return tally


def introspect(directory: pathlib.Path, what: str) -> list[dict]:
    """meson's own record of the configured tree: `what` is tests, targets, ..."""
    return json.loads((directory / "meson-info" / f"intro-{what}.json").read_text(encoding="utf-8"))


def test_targets(directory: pathlib.Path, suite: str) -> list[str]:
    """The files that the tests of a suite need, as ninja names them."""
    needed = {target for test in introspect(directory, "tests") if _in_suite(test, suite)
              for target in test["depends"]}
    return sorted(str(pathlib.Path(file).relative_to(directory)) for target in introspect(directory, "targets")
                  if target["id"] in needed for file in target["filename"])


def _in_suite(test: dict, suite: str) -> bool:
    return any(one == suite or one.endswith(":" + suite) for one in test["suite"])


def run_tests(runner: Runner, directory: pathlib.Path, suite: str, text: str, processes: int,
              environment: dict[str, str]) -> Tally:
    """Runs the suite's tests whose names contain `text`, and counts their cases. Not one test is a failure,
    unless it was `text` that left none."""
    names = [test["name"] for test in introspect(directory, "tests")
             if _in_suite(test, suite) and text in test["name"]]
    tally = Tally()
    if not names:
        if not text:
            tally.fails(f"{suite}: {directory} has no such tests")
        return tally
    logs = directory / "meson-logs"
    for stale in (logs / "testlog.json", logs / "testlog.junit.xml"):
        stale.unlink(missing_ok=True)
    log = f"{directory.name}-{suite}"
    status = runner.run(log, ["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs",
                              "--num-processes", str(processes), "--timeout-multiplier", _TIMEOUT_MULTIPLIER,
                              "--suite", suite, *names], environment=environment)
    if (logs / "testlog.json").exists():
        tally = count(logs)
    if status != 0 and tally.failed == 0:
        tally.fails(f"meson test of {suite} ended with status {status} (log: {runner.log(log)})")
    return tally


def count(logs: pathlib.Path) -> Tally:
    """Adds up meson's logs: GoogleTest and unittest by case, any other program as one case."""
    cases = _gtest_cases(logs / "testlog.junit.xml")
    tally = Tally()
    for line in (logs / "testlog.json").read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        of_test = cases.get(test["name"], Tally())
        output = test.get("stdout", "") + test.get("stderr", "")
        good = test["result"] in _GOOD_RESULTS
        tally.add(of_test)
        if test["result"] == "SKIP":
            tally.skips(test["name"])
        elif not good and of_test.failed == 0:
            tally.fails(f"{test['name']}: {test['result']}")  # crashed, or failed after its last case
        elif good and of_test.passed + of_test.skipped == 0:
            _count_whole(test["name"], output, tally)
    return tally


def _count_whole(name: str, output: str, tally: Tally) -> None:
    """A program that ended well and is not in the list of GoogleTest's cases."""
    ran = _RAN.search(output)
    cases = int(ran.group(1)) if ran else 0 if _NO_CASES.search(output) else 1
    if cases:
        tally.passes(cases)
    else:
        tally.fails(f"{name}: has no test cases")


def _gtest_cases(junit: pathlib.Path) -> dict[str, Tally]:
    """By the test's name: meson names the suites of GoogleTest "project.TEST.Suite"."""
    tallies: dict[str, Tally] = {}
    if not junit.exists():
        return tallies
    for suite in xml.etree.ElementTree.parse(junit).getroot().iter("testsuite"):
        _, dot, rest = suite.get("name", "").partition(".")
        if not dot:
            continue  # the suite of programs that are no GoogleTest
        tally = tallies.setdefault(rest.rpartition(".")[0], Tally())
        for case in suite.iter("testcase"):
            name = f"{rest.rpartition('.')[0]}: {case.get('classname')}.{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                tally.fails(name)
            elif case.find("skipped") is not None or case.get("status") == "notrun":
                tally.skips(name)
            else:
                tally.passes()
    return tallies
