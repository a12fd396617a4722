"""The check: every step, and one line at the end that adds them up."""

import argparse
import pathlib
import signal
import sys
import time

import steps
from runner import Runner
from tally import Tally

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_WITHOUT_TESTS = (steps.format_sources, steps.tidy)


def chosen_steps(arguments: argparse.Namespace) -> list[steps.Step]:
    chosen = [step for step in steps.STEPS if not arguments.step or step.name in arguments.step]
    if arguments.quick:
        chosen = [step for step in chosen if step.quick]
    if arguments.filter:
        chosen = [step for step in chosen if step.run not in _WITHOUT_TESTS]
    return chosen


def run_steps(check: steps.Check, chosen: list[steps.Step]) -> Tally:
    total = Tally()
    for step in chosen:
        print(f"== {step.title}", flush=True)
        began = time.monotonic()
        tally = step.run(check)
        total.add(tally)
        print(f"   {tally} ({time.monotonic() - began:.0f} s)", flush=True)
        if tally.failed and step.needed:
            print("   nothing else can run without this", flush=True)
            break
    return total


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    arguments = steps.parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    runner = Runner(ROOT, ROOT / "build-check-logs")
    try:
        tidy_folders = steps.FOLDERS if arguments.full else steps.PACKET_PATH
        total = run_steps(steps.Check(runner, ROOT, arguments.filter, tidy_folders), chosen_steps(arguments))
    except KeyboardInterrupt:
        print("check: interrupted", file=sys.stderr)
        return 130
    if total.failures:
        print("== failed")
        for line in total.failures:
            print(f"   {line}")
    if total.passed + total.failed == 0:
        total.fails("nothing ran")
        print("check: nothing ran; no test of these steps has that name", file=sys.stderr)
    print(total, flush=True)
    return 0 if total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
