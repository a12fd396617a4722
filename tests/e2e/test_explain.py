"""sluicectl explain against what then really happens: live connections, drains, frames that are injected."""

import contextlib
import pathlib
import random
import socket
import struct
from collections.abc import Iterator

import packets
from harness import FAMILIES, BalancedTestbed
from testbed import topology
from testbed.commands import socket_in
from testbed.configuration import POOL, SERVICE_MAGLEV
from testbed.network import BALANCER_FABRIC_PORT

_USAGE = 2
_NEW_CONNECTIONS = 12
_RANDOM_FRAMES = 150
_PATIENCE_S = 20


def text_of(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def capture_of(frames: list[bytes]) -> bytes:
    """A pcap file of Ethernet frames."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return header + b"".join(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)


class Explain(BalancedTestbed):
    @contextlib.contextmanager
    def connection(self, family: socket.AddressFamily, vip: str, local_port: int = 0) -> Iterator[tuple[str, str]]:
        """An HTTP connection that stays open meanwhile: its client's end, and the backend that answered."""
        with socket_in(self.testbed.network.client, family, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("", local_port))
            client.connect((vip, topology.HTTP_PORT))
            client.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
            answer = client.recv(65536)
            while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer:
                answer += client.recv(65536)
            address, port = client.getsockname()[:2]
            yield text_of(address, port), answer.split(b"\r\n\r\n", 1)[1].decode().strip()

    def explain(self, *arguments: str) -> dict:
        return self.appliance.query("explain", *arguments)

    @staticmethod
    def stage(explained: dict, name: str) -> dict:
        return next(stage for stage in explained["stages"] if stage["stage"] == name)

    def test_live_connection_is_explained_with_the_backend_that_answered(self) -> None:
        for family, vip in FAMILIES:
            with self.subTest(vip), self.connection(family, vip) as (client, backend):
                explained = self.explain("tcp", client, text_of(vip, topology.HTTP_PORT))
                self.assertEqual(explained["backend"], f"{POOL}/{backend}")
                self.assertEqual(explained["verdict"], "forward_established")
                self.assertEqual(explained["service"], SERVICE_MAGLEV)
                self.assertEqual(explained["engine"], self.options.engine)
                entry = self.stage(explained, "connection")["entries"][0]
                self.assertEqual((entry["state"], entry["holds"]), ("established", True))
                self.assertEqual(entry["table"], explained["worker"])
                self.assertTrue(self.stage(explained, "next_hop")["ready"])

    def test_connection_of_curl_is_explained_after_it_closed(self) -> None:
        port = 45017
        backend = self.curl(f"http://{topology.VIP_IPV4}/", "--local-port", str(port)).strip()
        explained = self.explain("tcp", text_of(topology.CLIENT_IPV4, port), text_of(topology.VIP_IPV4, topology.HTTP_PORT))
        entry = self.stage(explained, "connection")["entries"][0]
        self.assertEqual((entry["state"], entry["backend"]), ("closing", f"{POOL}/{backend}"))

    def test_new_connections_go_where_it_was_foretold(self) -> None:
        for family, vip in FAMILIES:
            client = topology.CLIENT_IPV4 if family == socket.AF_INET else topology.CLIENT_IPV6
            for port in range(46000, 46000 + _NEW_CONNECTIONS):
                to = text_of(vip, topology.HTTP_PORT)
                foretold = self.explain("tcp", text_of(client, port), to, "--syn")
                self.assertEqual(foretold["verdict"], "forward_new")
                self.assertEqual(self.stage(foretold, "connection")["entries"], [])  # asking has entered nothing
                with self.connection(family, vip, port) as (_, backend):
                    self.assertEqual(foretold["backend"], f"{POOL}/{backend}", port)

    def test_drained_backend_keeps_its_connection_and_is_named_draining(self) -> None:
        vip = text_of(topology.VIP_IPV4, topology.HTTP_PORT)
        with self.connection(socket.AF_INET, topology.VIP_IPV4) as (client, backend):
            self.appliance.must("drain", f"{POOL}/{backend}")
            try:
                explained = self.explain("tcp", client, vip)
                self.assertEqual(explained["backend"], f"{POOL}/{backend}")
                self.assertEqual(self.stage(explained, "backend")["state"], "draining")
                self.assertEqual(self.stage(explained, "connection")["entries"][0]["scheduled"], "before")
                for port in range(47000, 47020):
                    new = self.explain("tcp", text_of(topology.CLIENT_IPV4, port), vip, "--syn")
                    self.assertNotEqual(new["backend"], f"{POOL}/{backend}")
            finally:
                self.appliance.must("undrain", f"{POOL}/{backend}")
                self.appliance.wait_for_states({backend: "up"})

    def test_what_is_no_vip_or_no_service_is_the_kernels(self) -> None:
        client = text_of(topology.CLIENT_IPV4, 40000)
        elsewhere = self.explain("tcp", client, "198.51.100.99:80")
        self.assertEqual((elsewhere["verdict"], elsewhere["service"]), ("pass_not_vip", None))
        unserved = self.explain("udp", client, text_of(topology.VIP_IPV4, 9))
        self.assertEqual(unserved["verdict"], "pass_no_service")

    def test_for_people_each_stage_has_a_line(self) -> None:
        shown = self.appliance.must("explain", "tcp", text_of(topology.CLIENT_IPV4, 40000),
                                    text_of(topology.VIP_IPV4, topology.HTTP_PORT), "--syn")
        self.assertTrue(shown.startswith("forward_new, backend "), shown)
        for stage in ("parse", "service", "connection", "slot", "backend", "next_hop", "size", "verdict"):
            self.assertRegex(shown, rf"(?m)^{stage} ")

    def test_wrong_usage_is_told_and_exits_with_2(self) -> None:
        vip = text_of(topology.VIP_IPV4, topology.HTTP_PORT)
        for arguments in (("tcp", "10.77.0.1", vip), ("tcp", "[fd77::1]:5", vip), ("--frame", "0g"), (),
                          ("udp", "10.77.0.1:5", vip, "--flags", "syn"), ("--pcap", "/nonesuch.pcap"),
                          ("tcp", "10.77.0.1:5", vip, "--worker", "63")):
            result = self.appliance.sluicectl("explain", *arguments)
            self.assertEqual(result.status, _USAGE, arguments)
            self.assertNotEqual(result.errors, "")

    def test_captured_and_malformed_frames_end_as_explained(self) -> None:
        source = random.Random(20261122)
        segment = packets.tcp(4000)
        frames = [packets.random_frame(source) for _ in range(_RANDOM_FRAMES)]
        frames += [packets.ethernet(packets.ETHERTYPE_IPV4, packets.ipv4(6, segment, version_and_size=0x44)),
                   packets.ethernet(packets.ETHERTYPE_IPV4, packets.ipv4(6, segment, ttl=1)),
                   packets.ethernet(packets.ETHERTYPE_VLAN, bytes(2)),
                   packets.ethernet(packets.ETHERTYPE_IPV6, packets.ipv6(6, segment, version=5))]
        # What the testbed's own traffic gets all the time could not be told from a frame's.
        told_apart = [frame for frame in frames if not self.explained_frame(frame)["class"] == "pass"]
        self.assertGreater(len(told_apart), _RANDOM_FRAMES // 3)
        met = set()
        with socket_in(self.testbed.network.fabric, socket.AF_PACKET, socket.SOCK_RAW) as raw:
            injector = packets.Injector(raw, BALANCER_FABRIC_PORT)
            for frame in told_apart[-60:]:
                verdict = self.explained_frame(frame)["verdict"]
                before = self.appliance.counters().verdicts[verdict]
                injector.send(frame)
                self.wait_until(lambda verdict=verdict, before=before:
                                self.appliance.counters().verdicts[verdict] > before,
                                f"{verdict}, which was explained of {frame.hex()}", _PATIENCE_S)
                met.add(verdict)
        self.assertGreaterEqual(len(met), 6, met)

    def explained_frame(self, frame: bytes) -> dict:
        """By a capture, of which it is the second packet."""
        path = pathlib.Path(self.testbed.directory) / "explain.pcap"
        path.write_bytes(capture_of([bytes(60), frame]))
        return self.explain("--pcap", str(path), "--packet", "2")
