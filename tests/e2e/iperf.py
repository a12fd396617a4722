"""iperf3 from the client to b1, over each family, TCP and UDP."""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator

from harness import FAMILIES, BalancedTestbed
from testbed import processes, topology
from testbed.appliance import client_argv
from testbed.commands import enter, need_command, run
from testbed.configuration import SERVICE_IPERF, SERVICE_IPERF_CONTROL, SERVICE_IPERF_UDP

_STREAMS = 2
_END_TIMEOUT_S = 120
_PORTS = (topology.IPERF_PORT, topology.IPERF_UDP_PORT)
_OPTIONS = {topology.IPERF_PORT: ["--bitrate", "10M"],
            topology.IPERF_UDP_PORT: ["--udp", "--bitrate", "1M", "--length", "1200"]}


@dataclasses.dataclass
class Iperf:
    """A running client."""

    port: int
    vip: str
    process: "subprocess.Popen[str]"


class Iperfs:
    """One client for each family and protocol."""

    def __init__(self, test: BalancedTestbed, running: list[Iperf]):
        self._test = test
        self._running = running

    def assert_running(self) -> None:
        for one in self._running:
            self._test.assertIsNone(one.process.poll(), f"iperf3 to {one.vip}:{one.port} has ended")

    def assert_end_well(self) -> None:
        """Waits for their end, until which each stream has to have arrived. (What is under way at its end, iperf3 does
        not wait for.)"""
        for one in self._running:
            output, errors = one.process.communicate(timeout=_END_TIMEOUT_S)
            self._test.assertEqual(one.process.returncode, 0, errors + output[-2000:])
            report = json.loads(output)
            self._test.assertNotIn("error", report)
            received = report["server_output_json"]["intervals"][-2]["streams"]
            self._test.assertEqual(len(received), _STREAMS)
            for stream in received:
                self._test.assertGreater(stream["bytes"], 0)
                self._test.assertEqual(stream.get("lost_packets", 0), 0)  # of UDP


@contextlib.contextmanager
def servers_in_b1(test: BalancedTestbed) -> Iterator[None]:
    """At the VIP of each family, one for TCP and one for UDP."""
    backend = test.testbed.backends()[0]
    directory, netns = test.testbed.directory / backend.name, test.testbed.network.of_backend(backend)
    records = []
    try:
        for port in _PORTS:
            for family, vip in FAMILIES:
                name = f"iperf3-{port}-{family.name}"
                records.append(processes.start(
                    [need_command("iperf3"), "--server", "--bind", vip, "--port", str(port), "--json"],
                    netns=netns, record_path=directory / f"{name}.process", log=directory / f"{name}.log"))
        test.wait_until(lambda: _listening(netns) == len(records), "iperf3 listens")
        yield
    finally:
        for record in records:
            processes.kill_group(record)


@contextlib.contextmanager
def iperfs(test: BalancedTestbed, duration_s: int) -> Iterator[Iperfs]:
    """Runs them for so long, at most until the `with` ends. Only b1 may be in the pool, until all of the
    connections are in the connection table: then they have to stay there."""
    with contextlib.ExitStack() as stack:
        running = []
        for port in _PORTS:
            for _, vip in FAMILIES:
                process = stack.enter_context(_start(test, vip, port, duration_s))
                stack.callback(process.kill)
                running.append(Iperf(port, vip, process))
        expected = {SERVICE_IPERF: len(FAMILIES) * (1 + _STREAMS), SERVICE_IPERF_CONTROL: len(FAMILIES),
                    SERVICE_IPERF_UDP: len(FAMILIES) * _STREAMS}
        test.wait_until(lambda: _connections(test, expected) == expected, "iperf3's connections")
        yield Iperfs(test, running)


def _listening(netns: str) -> int:
    """Sockets that wait for connections to iperf3's ports."""
    lines = run(enter(netns, ["ss", "--no-header", "--listening", "--tcp", "--numeric"])).splitlines()
    return sum(1 for line in lines if line.split()[3].rpartition(":")[2] in map(str, _PORTS))


def _start(test: BalancedTestbed, vip: str, port: int, duration_s: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        client_argv(test.testbed, [
            need_command("iperf3"), "--client", vip, "--port", str(port), "--json", "--get-server-output",
            "--parallel", str(_STREAMS), "--time", str(duration_s), *_OPTIONS[port]]),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _connections(test: BalancedTestbed, services: dict[str, int]) -> dict[str, int]:
    """How many established ones the connection table has of each service."""
    return {name: sum(1 for one in test.appliance.query("connections", "--service", name)["connections"]
                      if one["state"] == "established") for name in services}
