"""http_client.py as a process in the client's namespace, and what it says."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from testbed import topology
from testbed.builder import Testbed
from testbed.commands import enter
from testbed.errors import TestbedError
from testbed.processes import wait_until

_PROGRAM = pathlib.Path(__file__).resolve().parent / "http_client.py"
_STOP_TIMEOUT_S = 40


def http_targets(port: int = topology.HTTP_PORT) -> list[str]:
    """The VIPs of both families, as http_client.py takes them."""
    return [f"{topology.VIP_IPV4}:{port}", f"[{topology.VIP_IPV6}]:{port}"]


@dataclasses.dataclass(frozen=True)
class Failure:
    target: str
    backend: str | None  # of an earlier answer on the same connection
    error: str  # begins with the name of its kind, as Python calls it
    port: int | None  # the client's
    began: float  # seconds of CLOCK_MONOTONIC
    ended: float

    @property
    def kind(self) -> str:
        return self.error.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class Connection:
    """A held connection, as the connection table names it."""

    client: str
    client_port: int
    vip: str
    vip_port: int


@dataclasses.dataclass(frozen=True)
class LoadResult:
    done: int
    failed: int
    requests: int
    by_target: dict[str, dict[str, int]]

    def by_backend(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for of_target in self.by_target.values():
            for backend, count in of_target.items():
                counts[backend] = counts.get(backend, 0) + count
        return counts


class Load:
    """A running http_client.py. Use as a context manager: it does not outlive the `with`."""

    def __init__(self, testbed: Testbed, mode: str, count: int, *, targets: Sequence[str] | None = None,
                 options: Sequence[str] = ()):
        argv = [sys.executable, "-B", str(_PROGRAM), mode, "--count", str(count), *options]
        for target in targets or http_targets():
            argv += ["--target", target]
        self.done = 0
        self.failures: list[Failure] = []
        self._progress: list[tuple[float, int]] = []  # when, and how many were done
        self._held: list[Connection] | None = None
        self._result: LoadResult | None = None
        self._process = subprocess.Popen(enter(testbed.network.client, argv), stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._reader.join()

    @property
    def is_over(self) -> bool:
        return not self._reader.is_alive()

    def wait_until_held(self, timeout_s: float = 60) -> int:
        """`hold`: until each connection had its first answer or failed; how many are held."""
        wait_until(lambda: self._held is not None or self.is_over, timeout_s,
                   "the first answer on each held connection")
        return len(self._held or [])

    def still_held(self) -> list[Connection]:
        """`hold`: the connections that have not failed until now."""
        broken = {(one.target, one.port) for one in self.failures}
        return [one for one in self._held or [] if (_target_of(one), one.client_port) not in broken]

    def attempts_between(self, began: float, ended: float) -> int:
        """`requests`: those that were under way at some time between these (seconds of CLOCK_MONOTONIC), give
        or take what is answered in a twentieth of a second."""
        before = max((done for at, done in self._progress if at <= began), default=0)
        after = min((done for at, done in self._progress if at >= ended), default=self.done)
        failed = sum(1 for one in self.failures if one.ended >= began and one.began <= ended)
        return after - before + failed

    def wait_until_done(self, count: int, timeout_s: float = 60) -> None:
        """Until `count` requests have been answered."""
        wait_until(lambda: self.done >= count or self.is_over, timeout_s, f"{count} answered requests")

    def finish(self, timeout_s: float = 600) -> LoadResult:
        """Waits for its own end."""
        self._reader.join(timeout_s)
        return self._outcome()

    def stop(self) -> LoadResult:
        """SIGTERM: it finishes what it has begun."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._reader.join(_STOP_TIMEOUT_S)
        return self._outcome()

    def _outcome(self) -> LoadResult:
        if self._result is None:
            raise TestbedError("http_client.py ended without a result" if self.is_over
                               else "http_client.py did not end in time")
        return self._result

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            kind = event.pop("event")
            if kind == "progress":
                self.done = event["done"]
                self._progress.append((event["at"], event["done"]))
            elif kind == "failure":
                self.failures.append(Failure(**event))
            elif kind == "held":
                self._held = [_connection(*one) for one in event["connections"]]
            else:
                self._result = LoadResult(**event)
                self.done = event["done"]


def _connection(address: str, port: int, target: str) -> Connection:
    vip, _, vip_port = target.rpartition(":")
    return Connection(address, port, vip.strip("[]"), int(vip_port))


def _target_of(connection: Connection) -> str:
    vip = f"[{connection.vip}]" if ":" in connection.vip else connection.vip
    return f"{vip}:{connection.vip_port}"
