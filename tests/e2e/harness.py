"""What the end-to-end tests share: a testbed with a balancer for each class of tests."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import random
import socket
import time
import unittest
from collections.abc import Iterator, Sequence

from testbed import processes, topology
from testbed.appliance import Appliance, DataplaneOptions, client_argv
from testbed.builder import Testbed
from testbed.commands import enter, run, socket_in
from testbed.configuration import members_of
from testbed.load import Load
from testbed.network import BALANCER_FABRIC_PORT, balancer_interface
from testbed.signals import uninterrupted

FAMILIES = ((socket.AF_INET, topology.VIP_IPV4), (socket.AF_INET6, topology.VIP_IPV6))
VIP_URLS = (f"http://{topology.VIP_IPV4}", f"http://[{topology.VIP_IPV6}]")
# Of a load of new connections: so few that no client's port comes round while the balancer may still know the
# connection of before (docs/decisions.md).
SPARING = ("--concurrency", "8", "--pause", "0.02")
_CURL_TIMEOUT_S = 60
_DOWNLOAD_TIMEOUT_S = 120
_UPLOAD_BYTES = 20_000_000
_NEEDLESS_RETRANSMISSIONS = ("TcpExtTCPLossProbes", "TcpExtTCPSpuriousRTOs", "TcpExtTCPDSACKRecv")


@dataclasses.dataclass
class _Settings:
    """What the command line said; set once, before any test is made."""

    build: pathlib.Path = pathlib.Path("build")
    prefix: str = "e2e"


_settings = _Settings()


def configure(build: pathlib.Path, prefix: str) -> None:
    _settings.build = build
    _settings.prefix = prefix


def build() -> pathlib.Path:
    """The build directory whose programs are tested."""
    return _settings.build


def prefix() -> str:
    """Begins the name of every namespace that a test makes."""
    return _settings.prefix


@dataclasses.dataclass(frozen=True)
class WireOffset:
    """How many frames more the wire has counted than the port."""

    received: int
    sent: int  # under XDP, by the interface's own count: the wire has the kernel's frames too


class BalancedTestbed(unittest.TestCase):
    """A testbed with `backend_count` backends that are all up. The tests of a class share it, so each
    leaves it as it found it. A class is run for each of its `engines`."""

    engines: tuple[str, ...] = ("dpdk", "xdp")
    backend_count = 4
    segments = 1
    queues = 1
    fabric_mtu = topology.FABRIC_MTU
    huge_pages = 0  # reserved for the testbed
    options = DataplaneOptions()
    testbed: Testbed
    appliance: Appliance

    @classmethod
    def on(cls, engine: str) -> "type[BalancedTestbed]":
        """This class on one engine, and named after it."""
        name = f"{cls.__name__}_{engine}"
        return type(name, (cls,), {"options": dataclasses.replace(cls.options, engine=engine),
                                   "__module__": cls.__module__, "__qualname__": name})

    @classmethod
    def setUpClass(cls) -> None:
        cls.testbed = Testbed(_settings.prefix)
        try:
            cls.testbed.up(cls.backend_count, cls.queues, segments=cls.segments, fabric_mtu=cls.fabric_mtu,
                           huge_pages=cls.huge_pages)
            cls.prepare_balancer()
            cls.appliance = Appliance(cls.testbed, _settings.build)
            cls.appliance.start_dataplane(cls.options)
            cls.appliance.write_config(members_of(cls.testbed.backends()))
            cls.appliance.start_sluiced()
            cls.appliance.wait_for_states(cls.all_up())
        except BaseException:
            with uninterrupted():
                if cls.testbed.is_mine():
                    cls._show_logs()
                    cls.testbed.down()
            raise

    @classmethod
    def prepare_balancer(cls) -> None:
        """What the balancer's namespace needs besides, before the daemons start."""

    @classmethod
    def tearDownClass(cls) -> None:
        with uninterrupted():
            cls.testbed.down()

    @classmethod
    def all_up(cls) -> dict[str, str]:
        return {backend.name: "up" for backend in cls.testbed.backends()}

    @classmethod
    def _show_logs(cls) -> None:
        for log in (cls.testbed.directory / "sluice").glob("*.log"):
            print(f"the end of {log.name}:\n{processes.log_tail(log)}")

    def tearDown(self) -> None:
        """A daemon that fell in a test is that test's failure, and its log is worth seeing."""
        if not self.appliance.is_running():
            self._show_logs()
            self.fail("a daemon does not run any more")

    def in_client(self, *argv: str, timeout_s: float = _CURL_TIMEOUT_S) -> str:
        """Runs a command in the client's namespace; it must succeed."""
        return run(client_argv(self.testbed, argv), timeout_s=timeout_s)

    def curl(self, url: str, *options: str) -> str:
        return self.in_client("curl", "--silent", "--show-error", "--globoff", "--fail", "--max-time", "20",
                              *options, url)

    def assert_big_file_arrives(self, url: str) -> None:
        """A download of 100 MB from a VIP, checked by its SHA-256."""
        sums = self.in_client("bash", "-c", "set -o pipefail; curl --silent --show-error --fail --globoff "
                              f"--max-time {_DOWNLOAD_TIMEOUT_S} '{url}/big' | sha256sum",
                              timeout_s=_DOWNLOAD_TIMEOUT_S + 10)
        self.assertEqual(sums.split()[0], self.testbed.big_file_sha256, url)

    def assert_upload_arrives(self, family: socket.AddressFamily, vip: str) -> str:
        """20 MB to a VIP in packets as large as the path lets them be, checked by their SHA-256; returns the
        backend."""
        content = random.Random(1).randbytes(_UPLOAD_BYTES)
        with socket_in(self.testbed.network.client, family, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect((vip, topology.TCP_DIGEST_PORT))
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            backend, size, digest = connection.makefile().readline().split()
        self.assertEqual((int(size), digest), (_UPLOAD_BYTES, hashlib.sha256(content).hexdigest()), vip)
        return backend

    @contextlib.contextmanager
    def held_against_the_hash(self, count: int, targets: Sequence[str] | None = None,
                              beside: contextlib.AbstractContextManager | None = None) -> Iterator[Load]:
        """Connections of which every second one would change its backend without its entry in the connection table:
        b1 and b2 have them all, and then half of the slots go to others. None may break during the `with`. What
        `beside` opens shares their fate."""
        members = members_of(self.testbed.backends())
        options = ["--interval", "0.2", "--concurrency", "16"]
        with self.config_restored():
            self.appliance.reload(members[:2])
            self.appliance.wait_for_states({"b1": "up", "b2": "up"})
            with beside or contextlib.nullcontext(), \
                    Load(self.testbed, "hold", count, targets=targets, options=options) as held:
                self.assertEqual(held.wait_until_held(), count, held.failures)
                self.appliance.reload(members)
                self.appliance.wait_for_states(self.all_up())
                yield held
                result = held.stop()
            self.assertEqual(held.failures, [])
            self.assertEqual(result.done, count)
            self.assertGreaterEqual(result.requests, 2 * count)

    def assert_requests_are_answered(self, count: int) -> None:
        """As many new connections over both families."""
        with Load(self.testbed, "requests", count) as load:
            load.finish()
        self.assertEqual(load.failures, [])

    @contextlib.contextmanager
    def config_restored(self) -> Iterator[None]:
        """After the `with`, the configuration is the usual one again and every backend is up."""
        try:
            yield
        finally:
            self.appliance.reload(members_of(self.testbed.backends()))
            self.appliance.wait_for_states(self.all_up())

    def wait_until(self, condition: object, what: str, timeout_s: float = 30) -> None:
        """Waits for `condition()`; the test fails if it does not hold within `timeout_s`."""
        assert callable(condition)
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"{what}: not within {timeout_s:g} s")
            time.sleep(0.02)

    def wire(self) -> tuple[int, int]:
        """Frames that the fabric has given to the balancer's interface and has got of the engine and its taps, by
        the kernel's own count."""
        shown = json.loads(run(["ip", "-n", self.testbed.network.fabric, "-s", "-j", "link", "show",
                                BALANCER_FABRIC_PORT]))[0]["stats64"]
        sent = shown["rx"]["packets"] if self.options.engine == "dpdk" else self._sent_by_xdp()
        return shown["tx"]["packets"], sent

    def _sent_by_xdp(self) -> int:
        """What the first interface's driver has sent of what XDP_TX told it to."""
        shown = run(enter(self.testbed.network.balancer, ["ethtool", "-S", balancer_interface(0)]))
        counts = {name.strip(): int(value) for name, _, value in
                  (line.partition(":") for line in shown.splitlines()[1:])}
        return sum(count if name.endswith("_xdp_tx") else -count for name, count in counts.items()
                   if name.endswith(("_xdp_tx", "_xdp_tx_errors")))

    def wire_offset(self) -> "WireOffset":
        """How far the counts of the wire and of the port are apart now."""
        given, got = self.wire()
        counters = self.appliance.counters()
        return WireOffset(given - counters.received_packets,
                          got - counters.transmitted_packets - counters.kernel_packets)

    def settled_offset(self) -> "WireOffset":
        """Of frames from before the port was the engine's: constant from now on, unless a frame is lost."""
        offsets: list[WireOffset] = []

        def settled() -> bool:
            offsets.append(self.wire_offset())
            return len(offsets) > 5 and len(set(offsets[-5:])) == 1

        self.wait_until(settled, "the difference between the wire's counts and the port's stays")
        return offsets[-1]

    def wait_until_accounted(self, offset: "WireOffset") -> None:
        """Until the port has received what it was given, each of these packets has its verdict, and the wire
        has got what the port sent."""

        def accounted() -> bool:
            counters = self.appliance.counters()
            return self.wire_offset() == offset and counters.sum_of_verdicts() == counters.received_packets

        self.wait_until(accounted, "packets on the wire, at the port and in verdicts are as many")

    @staticmethod
    def kernel_counters(netns: str, *names: str) -> dict[str, int]:
        """Of the namespace's network stack, since it was made."""
        lines = run(enter(netns, ["nstat", "-asz", *names])).splitlines()
        return {line.split()[0]: int(line.split()[1]) for line in lines if not line.startswith("#")}

    def checksum_errors(self, netns: str) -> dict[str, int]:
        """The kernel's counters of packets that it refused for a wrong checksum, those above 0."""
        counts = self.kernel_counters(netns, "TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors",
                                      "IcmpInCsumErrors", "Icmp6InCsumErrors", "IpExtInCsumErrors")
        return {name: count for name, count in counts.items() if count}

    def client_repairs(self) -> int:
        """Segments that the client has sent again, but for those that no loss was the reason of: probes when an
        answer takes long, and what it then found to have been for nothing (RFC 8985, RFC 5682, RFC 2883)."""
        counts = self.kernel_counters(self.testbed.network.client, "TcpRetransSegs", *_NEEDLESS_RETRANSMISSIONS)
        return counts.pop("TcpRetransSegs") - sum(counts.values())

    def assert_no_checksum_errors(self) -> None:
        """No receiver, client or backend, saw a wrong checksum."""
        network = self.testbed.network
        for netns in (network.client, *(network.of_backend(one) for one in self.testbed.backends())):
            self.assertEqual(self.checksum_errors(netns), {}, netns)
