"""Every received packet is in exactly one verdict, whatever it is."""

import contextlib
import random
import socket
from collections.abc import Iterator

import packets
from harness import BalancedTestbed
from testbed import topology
from testbed.commands import socket_in
from testbed.load import Load
from testbed.network import BALANCER_FABRIC_PORT

_RANDOM_FRAMES = 20_000
_BURST = 64  # frames in flight: fewer than the port's receive ring has room for
_REPEAT = 5
_REPEAT_AMONG_OTHERS = 1_000  # far more than the testbed itself sends while they are counted


class Accounting(BalancedTestbed):
    @contextlib.contextmanager
    def injector(self) -> Iterator[packets.Injector]:
        with socket_in(self.testbed.network.fabric, socket.AF_PACKET, socket.SOCK_RAW) as raw:
            yield packets.Injector(raw, BALANCER_FABRIC_PORT)

    def received(self) -> int:
        return self.appliance.counters().received_packets

    def inject(self, frames: list[bytes]) -> None:
        """In bursts, each received before the next: what a full ring refuses would prove nothing."""
        with self.injector() as injector:
            for first in range(0, len(frames), _BURST):
                burst = frames[first:first + _BURST]
                goal = self.received() + len(burst)
                for frame in burst:
                    injector.send(frame)
                self.wait_until(lambda goal=goal: self.received() >= goal, "injected frames are received")

    def assert_verdict(self, name: str, frame: bytes) -> None:
        """Each of a few such frames ends in `name`."""
        before = self.appliance.counters().verdicts[name]
        self.inject([frame] * _REPEAT)
        self.wait_until(lambda: self.appliance.counters().verdicts[name] == before + _REPEAT,
                        f"{_REPEAT} frames more in {name}: {self.appliance.counters().verdicts}", 10)

    def assert_verdict_among_others(self, name: str, frame: bytes) -> None:
        """The same of a verdict that the testbed's own packets (ARP, answers to checks) get as well."""
        before = self.appliance.counters().verdicts[name]
        self.inject([frame] * _REPEAT_AMONG_OTHERS)
        self.wait_until(lambda: self.appliance.counters().verdicts[name] >= before + _REPEAT_AMONG_OTHERS,
                        f"{_REPEAT_AMONG_OTHERS} frames more in {name}: {self.appliance.counters().verdicts}", 10)

    def test_verdicts_of_real_traffic_add_up(self) -> None:
        offset = self.settled_offset()
        before = self.appliance.counters()
        with Load(self.testbed, "requests", 500) as load:
            load.finish()
        self.assertEqual(load.failures, [])
        self.wait_until_accounted(offset)
        after = self.appliance.counters()
        # A connection is at least SYN, ACK with the request, and FIN. Its SYN is a new one unless the client
        # takes a port again so soon that the entry of the connection before is still there.
        opened = after.verdicts["forward_new"] - before.verdicts["forward_new"]
        self.assertLessEqual(opened, 500)
        self.assertGreater(opened, 450)
        self.assertGreaterEqual(after.verdicts["forward_established"] - before.verdicts["forward_established"], 1000)
        sent = sum(count for name, count in after.verdicts.items() if name.startswith(("forward_", "reply_")))
        self.assertEqual(sent, after.transmitted_packets)

    def test_random_and_malformed_packets_add_up(self) -> None:
        offset = self.settled_offset()
        before = self.appliance.counters()
        source = random.Random(20261120)
        self.inject([packets.random_frame(source) for _ in range(_RANDOM_FRAMES)])
        self.wait_until_accounted(offset)
        after = self.appliance.counters()
        self.assertGreaterEqual(after.received_packets - before.received_packets, _RANDOM_FRAMES)
        self.assertEqual(after.verdicts["drop_internal"], 0)
        met = [name for name, count in after.verdicts.items() if count > before.verdicts[name]]
        self.assertGreater(len(met), 15, met)
        with Load(self.testbed, "requests", 200) as load:
            load.finish()
        self.assertEqual(load.failures, [])

    def test_malformed_ethernet(self) -> None:
        tags = (packets.ETHERTYPE_QINQ, packets.ETHERTYPE_VLAN, packets.ETHERTYPE_VLAN)
        self.assert_verdict("drop_vlan_depth", packets.ethernet(packets.ETHERTYPE_IPV4, bytes(40), tags))
        self.assert_verdict("drop_ethernet_truncated", packets.ethernet(packets.ETHERTYPE_VLAN, bytes(2)))

    def test_malformed_ipv4(self) -> None:
        segment = packets.tcp(4000)
        for name, packet in (
                ("drop_ipv4_truncated", packets.ipv4(6, segment)[:19]),
                ("drop_ipv4_truncated", packets.ipv4(6, segment, total_length=500)),
                ("drop_ipv4_bad_header", packets.ipv4(6, segment, version_and_size=0x44)),
                ("drop_ipv4_bad_header", packets.ipv4(6, segment, total_length=19)),
                ("drop_l4_truncated", packets.ipv4(6, segment[:19])),
                ("drop_tcp_bad_header", packets.ipv4(6, packets.tcp(4000, words=4))),
                ("drop_tcp_bad_header", packets.ipv4(6, packets.tcp(4000, words=6))),
                ("drop_fragment", packets.ipv4(6, segment, fragment=0x0010)),
                ("drop_hop_limit", packets.ipv4(6, segment, ttl=1)),
        ):
            with self.subTest(name):
                self.assert_verdict(name, packets.ethernet(packets.ETHERTYPE_IPV4, packet))

    def test_malformed_ipv6(self) -> None:
        segment = packets.tcp(4000)
        for name, packet in (
                ("drop_ipv6_truncated", packets.ipv6(6, segment)[:39]),
                ("drop_ipv6_truncated", packets.ipv6(6, segment, payload_length=500)),
                ("drop_ipv6_bad_header", packets.ipv6(6, segment, version=5)),
                ("drop_ipv6_extension_headers", packets.ipv6(0, b"\0" * 4)),
                ("drop_ipv6_extension_headers", packets.ipv6(60, bytes([60, 0, 0, 0, 0, 0, 0, 0]) * 8)),
                ("drop_l4_truncated", packets.ipv6(17, bytes(7))),
                ("drop_fragment", packets.ipv6(44, bytes([6, 0, 0x01, 0x00, 0, 0, 0, 1]) + segment)),
                ("drop_hop_limit", packets.ipv6(6, segment, hop_limit=1)),
        ):
            with self.subTest(name):
                self.assert_verdict(name, packets.ethernet(packets.ETHERTYPE_IPV6, packet))

    def test_packet_that_does_not_fit_once_encapsulated_is_answered(self) -> None:
        """With the ICMP error that path MTU discovery lives on (RFC 1191), from the VIP to the client."""
        # Ten bytes are left: less than any outer header.
        packet = packets.ipv4(17, packets.udp(4000, bytes(topology.FABRIC_MTU - 10 - 28)))
        with socket_in(self.testbed.network.client, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
            icmp.settimeout(10)
            self.assert_verdict("reply_too_big", packets.ethernet(packets.ETHERTYPE_IPV4, packet))
            error = icmp.recv(2048)[20:]
        self.assertEqual(error[:2], b"\x03\x04")
        next_hop_mtu = int.from_bytes(error[6:8], "big")
        self.assertIn(next_hop_mtu, (topology.FABRIC_MTU - 20, topology.FABRIC_MTU - 40))
        self.assertEqual(error[8 + 16:8 + 20], packets.packed(topology.VIP_IPV4))

    def test_what_is_not_balanced_goes_to_the_kernel(self) -> None:
        segment = packets.tcp(4000)
        for name, packet in (
                ("pass_not_vip", packets.ipv4(6, segment, destination=topology.BALANCER_IPV4)),
                ("pass_no_service", packets.ipv4(6, packets.tcp(4000, port=9))),
                ("pass_other_protocol", packets.ipv4(89, bytes(24))),
        ):
            with self.subTest(name):
                self.assert_verdict_among_others(name, packets.ethernet(packets.ETHERTYPE_IPV4, packet))
        self.assert_verdict_among_others("pass_not_ip", packets.ethernet(0x88CC, bytes(40)))

    def test_icmp_error_follows_its_connection(self) -> None:
        with socket_in(self.testbed.network.client, socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect((topology.VIP_IPV4, topology.HTTP_PORT))
            port = connection.getsockname()[1]
            quoted = bytearray(packets.ipv4(6, packets.tcp(topology.HTTP_PORT, port=port),
                                            destination=topology.CLIENT_IPV4))
            quoted[12:16] = packets.packed(topology.VIP_IPV4)
            error = packets.ipv4(1, packets.icmp_error(bytes(quoted[:28])))
            self.assert_verdict("forward_icmp_error", packets.ethernet(packets.ETHERTYPE_IPV4, error))

    def test_icmp_error_that_quotes_too_little(self) -> None:
        error = packets.ipv4(1, packets.icmp_error(b"\x45" + bytes(10)))
        self.assert_verdict("drop_icmp_error_truncated", packets.ethernet(packets.ETHERTYPE_IPV4, error))
