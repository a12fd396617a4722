"""Building the programs that the demo runs, and nothing else."""

import pathlib
import re
import subprocess

import screen
from testbed.commands import need_command
from testbed.errors import TestbedError

_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_TAIL_LINES = 30
_PROGRAMS = ("dataplane/sluice-dataplane", "controlplane/sluiced/sluiced", "tools/sluicectl/sluicectl")


def build_release(root: pathlib.Path, directory: pathlib.Path) -> None:
    """meson and ninja, with progress; TestbedError with the end of the output if it fails."""
    meson, ninja = need_command("meson"), need_command("ninja")
    if not (directory / "build.ninja").exists():
        _run([meson, "setup", str(directory), str(root), "-Dbuildtype=release"], "meson setup")
    _run([ninja, "-C", str(directory), *_PROGRAMS], "ninja")


def _run(argv: list[str], what: str) -> None:
    progress = screen.Progress(what)
    progress.show("starts")
    tail: list[str] = []
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-_TAIL_LINES:], line.rstrip()]
            step = _STEP.match(line)
            if step:
                progress.show(f"{step.group(1)} of {step.group(2)}")
    if process.returncode != 0:
        progress.done("failed")
        raise TestbedError(f"{what} failed with status {process.returncode}:\n" + "\n".join(tail))
    progress.done("done")
