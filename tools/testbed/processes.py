"""Processes of the testbed: each has a record on disk that tells it from a later process of the same
number by its start time, so that a later run ends exactly what an earlier one left behind."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from testbed.commands import enter
from testbed.errors import TestbedError

_POLL_INTERVAL_S = 0.02
_LOG_TAIL_LINES = 15


@dataclasses.dataclass(frozen=True)
class ProcessRecord:
    """A process, or the leader of a process group (`pid` is its group's number too)."""

    pid: int
    start_time_ticks: int  # since boot: field 22 of /proc/PID/stat


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Returns as soon as `condition` holds; TestbedError that names `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TestbedError(f"{what}: not within {timeout_s:g} s")
        time.sleep(_POLL_INTERVAL_S)


def start_time_ticks(pid: int) -> int | None:
    """When the process started, or None if it is gone (or dead and only waits to be reaped)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: ProcessRecord) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)  # if it is a dead child of ours, reap it
    return start_time_ticks(record.pid) == record.start_time_ticks


def record_of(pid: int) -> ProcessRecord | None:
    ticks = start_time_ticks(pid)
    return None if ticks is None else ProcessRecord(pid, ticks)


def read_record(path: pathlib.Path) -> ProcessRecord | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return ProcessRecord(int(fields["pid"]), int(fields["start_time_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: pathlib.Path, record: ProcessRecord) -> None:
    path.write_text(json.dumps(dataclasses.asdict(record)) + "\n", encoding="utf-8")


def log_tail(log: pathlib.Path) -> str:
    """The last lines of a log, for a message about a process that failed."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join("    " + line for line in lines[-_LOG_TAIL_LINES:]) or "    (the log is empty)"


def start(argv: Sequence[str], *, netns: str, record_path: pathlib.Path, log: pathlib.Path,
          cpus: Sequence[int] | None = None) -> ProcessRecord:
    """Starts a process group in the namespace, its output appended to `log`; writes its record."""
    command = enter(netns, argv)
    if cpus is not None:
        command = ["taskset", "-c", ",".join(str(cpu) for cpu in cpus), *command]
    with open(log, "ab") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,  # pylint: disable=R1732
                                 stderr=subprocess.STDOUT, start_new_session=True)
    # Whoever asks is_alive() reaps it: the object must not warn that its process still runs.
    child.returncode = 0
    record = record_of(child.pid)
    if record is None:
        raise TestbedError(f'"{argv[0]}" ended at once:\n{log_tail(log)}')
    write_record(record_path, record)
    return record


def send_signal(record: ProcessRecord, number: int) -> bool:
    """Signals the process if it is still the one of the record; False if that one is gone."""
    if not is_alive(record):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, number)
        return True
    return False


def kill_group(record: ProcessRecord) -> None:
    """SIGKILL to the process and to all that it forked, if it is still the one of the record."""
    if is_alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(record.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(record), 10, f"end of process {record.pid} after SIGKILL")


def stop(record: ProcessRecord, timeout_s: float = 10) -> bool:
    """SIGTERM, and SIGKILL after `timeout_s`; False if it took the SIGKILL."""
    if not send_signal(record, signal.SIGTERM):
        return True
    try:
        wait_until(lambda: not is_alive(record), timeout_s, "end")
        return True
    except TestbedError:
        kill_group(record)
        return False
