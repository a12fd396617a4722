"""Running commands, and being inside a network namespace."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence

from testbed.errors import TestbedError

_CLONE_NEWNET = 0x40000000
_NETNS_DIRECTORY = "/run/netns"
_OUTPUT_IN_ERRORS_BYTES = 2000


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60) -> str:
    """Runs a command to its end and returns what it printed; TestbedError if it failed."""
    try:
        done = subprocess.run(argv, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout_s,
                              check=False)
    except FileNotFoundError as error:
        raise TestbedError(
            f'the command "{argv[0]}" is not installed; run tools/install-packages first') from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f'"{" ".join(argv)}" did not end within {timeout_s:g} s') from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-_OUTPUT_IN_ERRORS_BYTES:]
        raise TestbedError(f'"{" ".join(argv)}" failed with status {done.returncode}: {said}')
    return done.stdout


def netns_path(netns: str) -> str:
    return f"{_NETNS_DIRECTORY}/{netns}"


def enter(netns: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a namespace: nsenter, for `ip netns exec` would hide bpffs."""
    return ["nsenter", f"--net={netns_path(netns)}", "--", *argv]


def need_command(name: str) -> str:
    """The path of a program; TestbedError that says what to do if there is none."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise TestbedError(f'the command "{name}" is not installed; run tools/install-packages first')
    return path


def need_root() -> None:
    if os.geteuid() != 0:
        raise TestbedError("namespaces and XDP programs need root: run this with sudo")


def _enter_this_thread(netns_fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(netns_fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    """Within the `with`, this thread is in the namespace: sockets made here stay in it for life."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(netns_path(netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter_this_thread(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _enter_this_thread(home)
    finally:
        os.close(home)


def socket_in(netns: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to the namespace, for use from anywhere."""
    with inside(netns):
        return socket.socket(family, kind, protocol)
