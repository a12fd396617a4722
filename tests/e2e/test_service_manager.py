"""The daemons tell a service manager when they serve, and its watchdog that their loops go round. The test is the
service manager: it has a NOTIFY_SOCKET of its own."""

import contextlib
import ctypes
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator

from harness import BalancedTestbed
from testbed.commands import enter

_WATCHDOG_US = 400_000
_MANY_SIGNS_S = 30
_SILENCE_S = 2 * _WATCHDOG_US / 1e6
# sys/ptrace.h
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000


class NotifySocket:
    """Where a daemon sends what sd_notify(3) says."""

    def __init__(self, path: pathlib.Path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.wrapper = ("env", f"NOTIFY_SOCKET={path}", f"WATCHDOG_USEC={_WATCHDOG_US}")

    def close(self) -> None:
        self._socket.close()

    def receive(self, timeout_s: float) -> list[str]:
        """The lines of the next message; none within the time."""
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return []

    def drain(self) -> None:
        while self.receive(0.001):
            pass


@contextlib.contextmanager
def hanging(thread: int) -> Iterator[None]:
    """One thread does not go on; the others of its process do."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
        if ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace of {thread}")
    os.waitpid(thread, _WALL)
    try:
        yield
    finally:
        ptrace(_PTRACE_DETACH, thread, None, None)


class ServiceManager(BalancedTestbed):
    @contextlib.contextmanager
    def manager(self) -> Iterator[NotifySocket]:
        path = self.testbed.directory / "notify"
        path.unlink(missing_ok=True)
        notified = NotifySocket(path)
        try:
            yield notified
        finally:
            notified.close()

    def in_balancer(self, *argv: str) -> int:
        """The exit status of a command that ends by itself."""
        return subprocess.run(enter(self.testbed.network.balancer, argv), capture_output=True, timeout=_MANY_SIGNS_S,
                              check=False).returncode

    def wait_for(self, notified: NotifySocket, line: str) -> list[str]:
        """Every line until this one."""
        seen: list[str] = []
        deadline = time.monotonic() + _MANY_SIGNS_S
        while line not in seen:
            self.assertLess(time.monotonic(), deadline, f"no {line}; only {seen}")
            seen += notified.receive(1)
        return seen

    def assert_watched(self, notified: NotifySocket, pid: int) -> None:
        """Signs of life come, end when the control loop's thread alone hangs, and come again."""
        for _ in range(5):
            self.wait_for(notified, "WATCHDOG=1")
        with hanging(pid):  # the main thread's number is the process's
            notified.drain()
            self.assertEqual(notified.receive(_SILENCE_S), [])
        self.wait_for(notified, "WATCHDOG=1")

    def test_dataplane(self) -> None:
        self.appliance.stop_dataplane()
        with self.manager() as notified:
            self.appliance.start_dataplane(self.options, notified.wrapper)
            self.assertNotIn("WATCHDOG=1", self.wait_for(notified, "READY=1"))
            self.assert_watched(notified, self.appliance.dataplane_pid())
            self.assert_requests_are_answered(100)
            self.appliance.stop_dataplane()
            self.wait_for(notified, "STOPPING=1")
        self.appliance.start_dataplane(self.options)
        self.assert_requests_are_answered(100)

    def test_dataplane_that_cannot_serve_is_never_ready(self) -> None:
        """A directory is where its control socket should be, which it finds when everything else is done."""
        self.appliance.stop_dataplane()
        argv = self.appliance.dataplane_argv(self.options)
        argv[argv.index("--control-socket") + 1] = str(self.testbed.directory)
        with self.manager() as notified:
            self.assertNotEqual(self.in_balancer(*notified.wrapper, *argv), 0)
            self.assertEqual(notified.receive(0.2), [])
        self.appliance.start_dataplane(self.options)
        self.assert_requests_are_answered(100)

    def test_sluiced(self) -> None:
        self.appliance.stop_sluiced()
        with self.manager() as notified:
            self.appliance.start_sluiced(notified.wrapper)
            self.assertNotIn("WATCHDOG=1", self.wait_for(notified, "READY=1"))
            self.assertEqual(self.appliance.sluicectl("status").status, 0)
            self.assert_watched(notified, self.appliance.sluiced_pid())
            self.appliance.stop_sluiced()
            self.wait_for(notified, "STOPPING=1")
        self.appliance.start_sluiced()
        self.appliance.wait_for_states(self.all_up())

    def test_sluiced_that_cannot_serve_is_never_ready(self) -> None:
        """Its API's socket is in no directory."""
        with self.manager() as notified:
            argv = self.appliance.sluiced_argv()
            argv[argv.index("--api-socket") + 1] = "/dev/null/socket"
            argv[argv.index("--state-dir") + 1] = str(self.testbed.directory / "other-state")
            self.assertNotEqual(self.in_balancer(*notified.wrapper, *argv), 0)
            self.assertEqual(notified.receive(0.2), [])
