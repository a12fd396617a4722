"""What the tests of the kinds of health checks share: a network namespace of their own, a check carried out in it
by check_once, and servers that misbehave. The real ones are health_servers.py's."""

import concurrent.futures
import contextlib
import json
import pathlib
import socket
import ssl
import struct
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Sequence

import harness
from testbed.builder import STATE_ROOT, Testbed
from testbed.commands import enter, inside, run, socket_in
from testbed.signals import uninterrupted

LOOPBACKS = ("127.0.0.1", "::1")
SILENT = ("10.77.9.2", "fd77:9::2")  # what is sent there vanishes
REJECTING = ("10.77.9.3", "fd77:9::3")  # its router says that it cannot be reached
UNREACHABLE = ("10.77.9.4", "fd77:9::4")  # this host knows that it cannot be reached
NO_ROUTE = ("198.51.100.1", "2001:db8::1")
ANOTHER_SOURCE = ("10.77.9.5", "fd77:9::5")  # this host's
REFUSING_PORT = 9  # nobody listens there

# Of a check that has to wait for its timeout; the others have time enough on any host.
SHORT_TIMEOUT = "400ms"
_LONG_TIMEOUT = "10s"
_FIRST_BROKEN_PORT = 20000  # below what the kernel chooses from
_DRIP_S = 0.02
_END_TIMEOUT_S = 10

_RULES = f"""\
table inet health_checks {{
  chain input {{
    type filter hook input priority filter;
    icmp type destination-unreachable accept
    icmpv6 type destination-unreachable accept
    ip daddr {SILENT[0]} drop
    ip6 daddr {SILENT[1]} drop
    ip daddr {REJECTING[0]} reject with icmp type host-unreachable
    ip6 daddr {REJECTING[1]} reject with icmpv6 type addr-unreachable
  }}
}}
"""

Serve = Callable[[socket.socket], None]


class HealthChecks(unittest.TestCase):
    """Tests in a namespace with loopback addresses of both families. The tests of a class share it."""

    netns: str
    directory: pathlib.Path  # of the class; goes with it
    _testbed: Testbed
    _ports: Iterator[int]

    @classmethod
    def setUpClass(cls) -> None:
        prefix = harness.prefix()
        cls._testbed = Testbed(prefix)
        cls.netns = f"{prefix}-checks"
        cls.directory = STATE_ROOT / prefix / "checks"
        cls._ports = iter(range(_FIRST_BROKEN_PORT, 32768))
        try:
            cls.directory.mkdir(parents=True)
            cls._build_network()
            cls.start_servers()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        with uninterrupted():
            cls._testbed.down()  # ends what has a record below its directory, or runs in a namespace of its prefix

    @classmethod
    def start_servers(cls) -> None:
        """The real ones, those of health_servers.py that the class is about."""

    @classmethod
    def _build_network(cls) -> None:
        run(["ip", "netns", "add", cls.netns])
        run(["ip", "-n", cls.netns, "-batch", "-"], stdin="\n".join([
            "link set lo up",
            *(f"addr add {one[0]}/32 dev lo" for one in (SILENT, REJECTING, ANOTHER_SOURCE)),
            *(f"addr add {one[1]}/128 dev lo nodad" for one in (SILENT, REJECTING, ANOTHER_SOURCE)),
            f"route add unreachable {UNREACHABLE[0]}",
            f"route add unreachable {UNREACHABLE[1]}"]) + "\n")
        run(enter(cls.netns, ["nft", "-f", "-"]), stdin=_RULES)
        cls.set_sysctl("net/ipv4/ping_group_range", "0 2147483647")

    @classmethod
    def set_sysctl(cls, name: str, value: str) -> None:
        with inside(cls.netns), open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)

    def check(self, address: str, health: dict) -> tuple[str, str]:
        """The outcome of one check, and the text that the operator sees."""
        said = json.loads(run(self.checking(address), stdin=json.dumps(
            {"interval": _LONG_TIMEOUT, "timeout": _LONG_TIMEOUT, **health})))
        return said["outcome"], said["text"]

    def checking(self, address: str) -> list[str]:
        """The command line of one check, which reads how from its standard input."""
        program = harness.build() / "tests/controlplane/health/check_once"
        return enter(self.netns, [str(program), address])

    def assert_healthy(self, text: str, addresses: Sequence[str] = LOOPBACKS, **health: object) -> None:
        """A check of each address succeeds and says so."""
        self._assert_checks(("success", text), addresses, health)

    def assert_unhealthy(self, text: str, addresses: Sequence[str] = LOOPBACKS, **health: object) -> None:
        """A check of each address fails with this text."""
        self._assert_checks(("failure", text), addresses, health)

    def assert_says(self, outcome: str, pattern: str, addresses: Sequence[str] = LOOPBACKS, **health: object) -> None:
        """A check of each address ends with the outcome, and a text that the pattern fits as a whole."""
        for address, (got, text) in self._check_all(addresses, health):
            with self.subTest(address=address):
                self.assertEqual(got, outcome, text)
                self.assertRegex(text, f"^(?:{pattern})$")

    def assert_not_carried_out(self, text: str, addresses: Sequence[str] = LOOPBACKS, **health: object) -> None:
        """This host cannot check any of the addresses."""
        self._assert_checks(("not carried out", text), addresses, health)

    def _assert_checks(self, expected: tuple[str, str], addresses: Sequence[str], health: dict) -> None:
        for address, got in self._check_all(addresses, health):
            with self.subTest(address=address):
                self.assertEqual(got, expected)

    def _check_all(self, addresses: Sequence[str], health: dict) -> Iterator[tuple[str, tuple[str, str]]]:
        with concurrent.futures.ThreadPoolExecutor() as pool:  # one waits for its timeout while the other does
            yield from zip(addresses, pool.map(lambda address: self.check(address, health), addresses), strict=True)

    @contextlib.contextmanager
    def stream_server(self, serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[int]:
        """The port of a TCP server on both loopback addresses that does `serve` with each connection, within TLS if
        there is a context."""
        port = next(self._ports)
        threads: list[threading.Thread] = []
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: _join(threads))
            for address in LOOPBACKS:
                listener = stack.enter_context(self._bound(socket.SOCK_STREAM, address, port))
                listener.listen(16)
                thread = threading.Thread(target=_accept, args=(listener, serve, tls))
                thread.start()
                threads.append(thread)
                stack.callback(listener.shutdown, socket.SHUT_RDWR)  # ends accept()
            yield port

    @contextlib.contextmanager
    def datagram_server(self, answers: Callable[[bytes], Sequence[bytes]]) -> Iterator[int]:
        """The port of a UDP server on both loopback addresses."""
        port = next(self._ports)
        ended = threading.Event()
        threads: list[threading.Thread] = []
        with contextlib.ExitStack() as stack:
            for address in LOOPBACKS:
                peer = stack.enter_context(self._bound(socket.SOCK_DGRAM, address, port))
                peer.settimeout(0.05)
                threads.append(threading.Thread(target=_answer_datagrams, args=(peer, answers, ended)))
                threads[-1].start()
            stack.callback(lambda: _join(threads))
            stack.callback(ended.set)
            yield port

    def _bound(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        bound = socket_in(self.netns, socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
        except BaseException:
            bound.close()
            raise
        return bound


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(_END_TIMEOUT_S)


def _accept(listener: socket.socket, serve: Serve, tls: ssl.SSLContext | None) -> None:
    """One connection after the other, until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):  # the check has ended the connection
            connection.settimeout(_END_TIMEOUT_S)
            if tls is None:
                serve(connection)
            else:
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    serve(wrapped)


def _answer_datagrams(peer: socket.socket, answers: Callable[[bytes], Sequence[bytes]], ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            datagram, sender = peer.recvfrom(65536)
            for answer in answers(datagram):
                peer.sendto(answer, sender)


def silent(connection: socket.socket) -> None:
    """Reads, and never says anything."""
    while connection.recv(65536):
        pass


def resets(connection: socket.socket) -> None:
    """Waits for the client to speak, and resets the connection."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answers_with(*answers: bytes) -> Serve:
    """Says the first when the client has spoken, the next when it has spoken again, and then nothing."""

    def serve(connection: socket.socket) -> None:
        for answer in answers:
            if not connection.recv(65536):
                return
            connection.sendall(answer)
        silent(connection)

    return serve


def half_closes_after(answer: bytes = b"") -> Serve:
    """Ends its own direction after that much of an answer, and goes on reading."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        silent(connection)

    return serve


def drips(answer: bytes, begin: bytes = b"") -> Serve:
    """Says `begin`, and then the answer once and again, byte by byte and slowly, until the client has enough."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(begin)
        while True:
            for byte in answer:
                connection.sendall(bytes([byte]))
                time.sleep(_DRIP_S)

    return serve
