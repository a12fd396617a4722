"""Ten changes of backends a second break no connection."""

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator

from harness import FAMILIES, BalancedTestbed
from testbed import topology
from testbed.builder import BIG_FILE_BYTES
from testbed.commands import socket_in
from testbed.configuration import POOL, members_of
from testbed.load import Load

_CHANGES = 120
_CHANGE_INTERVAL_S = 0.1  # at least; a slow machine takes longer
_DOWNLOADS_PER_FAMILY = 2
_HELD = 100
_DRAINED = ("b1", "b2", "b3", "b4")  # and taken back; the others are removed and added
_MIN_UNDRAINED = 2
_STALL_TIMEOUT_S = 60


class PacedDownload(threading.Thread):
    """A download of 100 MB that gets on only as far as allow() says: how long it takes is the test's choice,
    however fast or slow the machine is."""

    def __init__(self, connection: socket.socket, vip: str):
        super().__init__(daemon=True)
        self.received = 0
        self.sha256 = hashlib.sha256()
        self.error: Exception | None = None
        self._connection = connection
        self._vip = vip
        self._allowed = 0
        self._may_go_on = threading.Condition()

    def allow(self, size: int) -> None:
        """Bytes of the body from its beginning."""
        with self._may_go_on:
            self._allowed = size
            self._may_go_on.notify()

    def run(self) -> None:
        try:
            self._download()
        except (OSError, ValueError) as error:
            self.error = error

    def _download(self) -> None:
        with self._connection as connection:
            connection.settimeout(_STALL_TIMEOUT_S)
            connection.connect((self._vip, topology.HTTP_PORT))
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self._receive(connection, 1)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ValueError(head.decode("latin-1"))
            while self.received < BIG_FILE_BYTES:
                with self._may_go_on:
                    if not self._may_go_on.wait_for(lambda: self._allowed > self.received, _STALL_TIMEOUT_S):
                        raise TimeoutError("no further change allowed it to go on")
                    part = min(1 << 16, self._allowed - self.received)
                data = self._receive(connection, part)
                self.sha256.update(data)
                self.received += len(data)

    @staticmethod
    def _receive(connection: socket.socket, size: int) -> bytes:
        data = connection.recv(size)
        if not data:
            raise ConnectionError("the connection ended before the file did")
        return data


class Changes(BalancedTestbed):
    backend_count = 6

    def setUp(self) -> None:
        self.drained: set[str] = set()
        self.absent: set[str] = set()
        self.choice = random.Random(7)

    def change(self) -> None:
        """Drains or takes back a backend, or removes or adds one: never what is so already. Returns when
        packets are decided by it."""
        names = {backend.name for backend in self.testbed.backends()}
        possible = [("undrain", name) for name in self.drained]
        if len(self.drained) < len(_DRAINED) - _MIN_UNDRAINED:
            possible += [("drain", name) for name in _DRAINED if name not in self.drained]
        possible += [("toggle", name) for name in names.difference(_DRAINED)]
        command, name = self.choice.choice(sorted(possible))
        before = self.appliance.snapshot().revision
        if command == "toggle":
            self.absent ^= {name}
            self.appliance.reload([one for one in members_of(self.testbed.backends())
                                   if one.backend.name not in self.absent])
        else:
            self.drained ^= {name}
            self.appliance.must(command, f"{POOL}/{name}")
        self.wait_until(lambda: self.is_in_force(names, before), f"the effect of {command} {name}")

    def is_in_force(self, names: set[str], revision: int) -> bool:
        """Whether a later snapshot than that of `revision` has the present backends, and the drained ones so."""
        snapshot = self.appliance.snapshot()
        states = {one.name: one.state for one in snapshot.backends.values() if not one.removed}
        draining = {name for name, state in states.items() if state == "draining"}
        return snapshot.revision > revision and draining == self.drained and set(states) == names - self.absent

    @contextlib.contextmanager
    def everything_restored(self) -> Iterator[None]:
        with self.config_restored():
            try:
                yield
            finally:
                for name in self.drained:
                    self.appliance.must("undrain", f"{POOL}/{name}")

    @contextlib.contextmanager
    def downloads(self) -> Iterator[list[PacedDownload]]:
        """Has begun some over each family; sees them to their end when the `with` ends well."""
        running = [PacedDownload(socket_in(self.testbed.network.client, family, socket.SOCK_STREAM), vip)
                   for family, vip in FAMILIES for _ in range(_DOWNLOADS_PER_FAMILY)]
        for download in running:
            download.start()
        yield running
        for download in running:
            self.assertTrue(download.is_alive(), f"ended before the last change: {download.error}")
            download.allow(BIG_FILE_BYTES)
        for download in running:
            download.join(_STALL_TIMEOUT_S)
            self.assertIsNone(download.error)
            self.assertEqual(download.received, BIG_FILE_BYTES)
            self.assertEqual(download.sha256.hexdigest(), self.testbed.big_file_sha256)

    def test_downloads_and_held_connections_survive_ten_changes_a_second(self) -> None:
        """Each change lets each download get on by its share of the file, so that every one lives through
        all of them."""
        options = ["--interval", "0.2", "--concurrency", "16"]
        with self.everything_restored(), Load(self.testbed, "hold", _HELD, options=options) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            revision = self.appliance.snapshot().revision
            with self.downloads() as downloads:
                for number in range(1, _CHANGES + 1):
                    next_at = time.monotonic() + _CHANGE_INTERVAL_S
                    self.change()
                    for download in downloads:
                        download.allow(number * BIG_FILE_BYTES // (_CHANGES + 1))
                    time.sleep(max(0.0, next_at - time.monotonic()))
                self.assertGreaterEqual(self.appliance.snapshot().revision - revision, _CHANGES)
            result = load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(result.done, _HELD)
        self.assert_no_checksum_errors()
