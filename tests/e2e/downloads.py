"""Downloads of 100 MB that last as long as a test wants them to, and curl's, which last long."""

import contextlib
import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator

from harness import FAMILIES, VIP_URLS, BalancedTestbed
from testbed import topology
from testbed.appliance import client_argv
from testbed.builder import BIG_FILE_BYTES
from testbed.commands import socket_in

_STALL_TIMEOUT_S = 60
_CURL_TIMEOUT_S = 300


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


class PacedDownloads:
    """Several of them, over each family."""

    def __init__(self, downloads: list[PacedDownload]):
        self._downloads = downloads

    def allow(self, size: int) -> None:
        """Lets each get on to so many bytes of its body."""
        for download in self._downloads:
            download.allow(size)

    def reached(self, size: int) -> bool:
        """Whether each has so many bytes, or has failed."""
        return all(download.received >= size or download.error is not None for download in self._downloads)


@contextlib.contextmanager
def paced_downloads(test: BalancedTestbed, per_family: int) -> Iterator[PacedDownloads]:
    """Has begun some over each family; sees them to their end when the `with` ends well, whole and in order."""
    running = [PacedDownload(socket_in(test.testbed.network.client, family, socket.SOCK_STREAM), vip)
               for family, vip in FAMILIES for _ in range(per_family)]
    for download in running:
        download.start()
    yield PacedDownloads(running)
    for download in running:
        test.assertTrue(download.is_alive(), f"ended before the last change: {download.error}")
        download.allow(BIG_FILE_BYTES)
    for download in running:
        download.join(_STALL_TIMEOUT_S)
        test.assertIsNone(download.error)
        test.assertEqual(download.received, BIG_FILE_BYTES)
        test.assertEqual(download.sha256.hexdigest(), test.testbed.big_file_sha256)


class CurlDownloads:
    """curl's, one over each family."""

    def __init__(self, test: BalancedTestbed, running: "list[subprocess.Popen[str]]"):
        self._test = test
        self._running = running

    def assert_running(self) -> None:
        for process in self._running:
            self._test.assertIsNone(process.poll(), "curl has ended")

    def assert_arrive(self) -> None:
        """Waits for their end: each has the whole file."""
        for process in self._running:
            output, errors = process.communicate(timeout=_CURL_TIMEOUT_S)
            self._test.assertEqual(process.returncode, 0, errors)
            self._test.assertEqual(output.split()[0], self._test.testbed.big_file_sha256)


@contextlib.contextmanager
def curl_downloads(test: BalancedTestbed, duration_s: int) -> Iterator[CurlDownloads]:
    """Begins them; nginx sends so fast that each takes about `duration_s`."""
    with contextlib.ExitStack() as stack:
        running = []
        for url in VIP_URLS:
            script = ("set -o pipefail; curl --silent --show-error --fail --globoff "
                      f"--max-time {_CURL_TIMEOUT_S} '{url}/big?rate={BIG_FILE_BYTES // duration_s}' | sha256sum")
            process = stack.enter_context(subprocess.Popen(
                client_argv(test.testbed, ["bash", "-c", script]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, start_new_session=True))
            stack.callback(process.kill)
            running.append(process)
        yield CurlDownloads(test, running)
