"""UDP flows that go on: each datagram is echoed, with the name of the backend that did it."""

import contextlib
import selectors
import socket
import threading
import time

from harness import FAMILIES, BalancedTestbed
from testbed import topology
from testbed.commands import socket_in

_INTERVAL_S = 0.05
_LATE_ANSWERS_S = 5.0


class UdpFlow:
    """One socket, and what has become of its datagrams."""

    def __init__(self, connection: socket.socket, vip: str):
        self.connection = connection
        self.sent = 0
        self.answered: set[int] = set()
        self.last_answered = -1
        self.backends: set[str] = set()
        connection.setblocking(False)
        connection.connect((vip, topology.UDP_ECHO_PORT))

    def send(self) -> None:
        # A host that has no way to send it now has lost it.
        with contextlib.suppress(OSError):
            self.connection.send(str(self.sent).encode())
        self.sent += 1

    def receive(self) -> None:
        with contextlib.suppress(OSError):
            backend, _, number = self.connection.recv(2048).partition(b" ")
            self.backends.add(backend.decode())
            self.answered.add(int(number))
            self.last_answered = max(self.last_answered, int(number))

    @property
    def lost(self) -> int:
        return self.sent - len(self.answered)


class UdpFlows(threading.Thread):
    """Some over each family, until the `with` ends."""

    def __init__(self, test: BalancedTestbed, per_family: int):
        super().__init__(daemon=True)
        self._test = test
        self._end = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._flows = [UdpFlow(socket_in(test.testbed.network.client, family, socket.SOCK_DGRAM), vip)
                       for family, vip in FAMILIES for _ in range(per_family)]
        for flow in self._flows:
            self._selector.register(flow.connection, selectors.EVENT_READ, flow)

    def __enter__(self) -> "UdpFlows":
        self.start()
        self.wait_until_answered()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()
        for flow in self._flows:
            flow.connection.close()

    def run(self) -> None:
        while not self._end.is_set():
            for flow in self._flows:
                flow.send()
            self._receive_until(time.monotonic() + _INTERVAL_S)
        deadline = time.monotonic() + _LATE_ANSWERS_S
        while self.lost and time.monotonic() < deadline:
            self._receive_until(time.monotonic() + _INTERVAL_S)

    def _receive_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data.receive()

    @property
    def lost(self) -> int:
        """Datagrams without an answer, over all flows."""
        return sum(flow.lost for flow in self._flows)

    def wait_until_answered(self) -> None:
        """Until each flow has an answer to what it sends from now on."""
        sent = [flow.sent for flow in self._flows]

        def answered() -> bool:
            return all(flow.last_answered >= before for flow, before in zip(self._flows, sent))

        self._test.wait_until(answered, "an answer on each UDP flow")

    def assert_kept_their_backends(self) -> None:
        for flow in self._flows:
            self._test.assertEqual(len(flow.backends), 1, flow.backends)
