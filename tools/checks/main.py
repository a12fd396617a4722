"""The check: every step, and one line at the end that adds them up."""

import argparse
import pathlib
import signal
import subprocess
import sys
import time

import steps
from runner import Runner
from tally import Tally

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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


def interrupt_on_signals() -> None:
    """The first signal ends the check through every `finally`; later ones do not cut that short."""

    def interrupt(number: int, _frame: object) -> None:
        for ending in _ENDING:
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in _ENDING:
        signal.signal(number, interrupt)


def is_good(total: Tally, arguments: argparse.Namespace) -> bool:
    """Nothing failed; and nothing was skipped: a test that cannot run here proves nothing. Only a check of
    which less was asked gets away with that."""
    return total.failed == 0 and (total.skipped == 0 or bool(arguments.filter) or arguments.quick)


def show(title: str, lines: list[str]) -> None:
    if lines:
        print(f"== {title}")
    for line in lines:
        print(f"   {line}")


def main() -> int:
    arguments = steps.parse_arguments()
    interrupt_on_signals()
    runner = Runner(ROOT, ROOT / "build-check-logs")
    try:
        if subprocess.run([str(ROOT / "tools" / "install-packages")], check=False).returncode != 0:
            print("check: packages are missing (above is why)", file=sys.stderr)
            return 1
        tidy_folders = steps.FOLDERS if arguments.full else steps.PACKET_PATH
        total = run_steps(steps.Check(runner, ROOT, arguments.filter, tidy_folders), chosen_steps(arguments))
    except KeyboardInterrupt:
        print("check: interrupted", file=sys.stderr)
        return 130
    show("skipped", total.omissions)
    show("failed", total.failures)
    if total.passed + total.failed == 0:
        total.fails("nothing ran")
        print("check: nothing ran; no test of these steps has that name", file=sys.stderr)
    print(total, flush=True)
    return 0 if is_good(total, arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
