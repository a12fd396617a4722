"""Running a command with its output in a log, and a sign of life for whoever watches."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

_TAIL_LINES = 40
_SIGN_OF_LIFE_S = 20.0
_KILL_AFTER_S = 20.0


class Runner:
    """Runs commands at the top of the tree; each has its log under `logs`."""

    def __init__(self, root: pathlib.Path, logs: pathlib.Path):
        self.root = root
        self.logs = logs

    def run(self, name: str, argv: Sequence[str | pathlib.Path], *, environment: dict[str, str] | None = None,
            quiet: bool = False, timeout_s: float = 3600) -> int:
        """The command's exit status; -1 if it took more than `timeout_s`. Says how it went, and on failure
        (unless `quiet`) shows the end of the log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        began = time.monotonic()
        with open(log, "wb") as output:
            with self._process(argv, output, environment) as process:
                status = self._wait(name, process, began, timeout_s)
        took = time.monotonic() - began
        if status == 0 or quiet:
            return status
        print(f"   {name}: failed after {took:.0f} s (status {status}); the end of {log}:", flush=True)
        print(self.tail(name), flush=True)
        return status

    def log(self, name: str) -> pathlib.Path:
        return self.logs / f"{name}.log"

    def tail(self, name: str) -> str:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join("   | " + line for line in lines[-_TAIL_LINES:])

    @contextlib.contextmanager
    def _process(self, argv: Sequence[str | pathlib.Path], output: object,
                 environment: dict[str, str] | None) -> Iterator[subprocess.Popen]:
        """A process group of its own, which does not outlive the `with`."""
        process = subprocess.Popen([str(word) for word in argv], cwd=self.root,  # pylint: disable=R1732
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   env={**os.environ, **(environment or {})}, start_new_session=True)
        try:
            yield process
        finally:
            _end_group(process)

    @staticmethod
    def _wait(name: str, process: subprocess.Popen, began: float, timeout_s: float) -> int:
        while True:
            try:
                return process.wait(timeout=_SIGN_OF_LIFE_S)
            except subprocess.TimeoutExpired:
                took = time.monotonic() - began
                if took > timeout_s:
                    print(f"   {name}: no end after {took:.0f} s", flush=True)
                    return -1
                print(f"   {name}: {took:.0f} s", flush=True)


def _end_group(process: subprocess.Popen) -> None:
    """First politely: a test that is interrupted takes its namespaces down."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_KILL_AFTER_S)
            return
    print(f"check: process {process.pid} did not end", file=sys.stderr)
