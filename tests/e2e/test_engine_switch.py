"""From DPDK to XDP and back, under traffic: one engine hands its connections to the other."""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator

from downloads import paced_downloads
from harness import FAMILIES, BalancedTestbed
from testbed import dataplane_client, processes, topology
from testbed.appliance import client_argv
from testbed.builder import BIG_FILE_BYTES
from testbed.commands import need_command
from testbed.configuration import members_of
from testbed.load import Load, http_targets

_HELD = 200
_PROGRESS = 300  # requests on new connections
_ENGINES = ("xdp", "dpdk")
_IPERF_STREAMS = 3
_IPERF_DURATION_S = 20  # longer than two switches take
_IPERF_BITS_PER_STREAM = "10M"


class EngineSwitch(BalancedTestbed):
    engines = ("dpdk",)

    def switch_to(self, engine: str) -> None:
        self.appliance.stop_dataplane()
        self.appliance.start_dataplane(dataclasses.replace(self.options, engine=engine))
        self.assertEqual(dataplane_client.hello(self.appliance.control_socket)["engine"], engine)

    def test_connections_and_downloads_survive(self) -> None:
        targets = http_targets() + http_targets(topology.HTTP_LEAST_CONNECTION_PORT)
        with self.held_against_the_hash(_HELD, targets) as held, \
                Load(self.testbed, "requests", 0, options=["--concurrency", "8"]) as load:
            with paced_downloads(self, 1) as downloads:
                for number, engine in enumerate(_ENGINES, 1):
                    self.switch_to(engine)
                    self.assertEqual(held.failures, [])
                    share = number * BIG_FILE_BYTES // (len(_ENGINES) + 1)
                    downloads.allow(share)
                    load.wait_until_done(load.done + _PROGRESS)
                    self.wait_until(lambda share=share: downloads.reached(share), "the downloads get on")
            load.stop()
        self.assertEqual(load.failures, [])
        self.assert_no_checksum_errors()
        self.assertEqual(self.appliance.pins(), [])

    def test_what_killed_xdp_left_is_taken_over_by_dpdk(self) -> None:
        with self.held_against_the_hash(_HELD):
            self.switch_to("xdp")
            self.appliance.kill_dataplane()
            self.assert_requests_are_answered(200)
            self.switch_to("dpdk")
            self.assert_requests_are_answered(200)
        self.assertEqual(self.appliance.pins(), [])

    @contextlib.contextmanager
    def iperf_servers(self) -> Iterator[None]:
        """In b1, at the VIP of each family."""
        backend = self.testbed.backends()[0]
        directory = self.testbed.directory / backend.name
        records = []
        try:
            for family, vip in FAMILIES:
                log = directory / f"iperf3-{family.name}.log"
                records.append(processes.start(
                    [need_command("iperf3"), "--server", "--bind", vip, "--port", str(topology.IPERF_PORT),
                     "--forceflush"], netns=self.testbed.network.of_backend(backend),
                    record_path=directory / f"iperf3-{family.name}.process", log=log))
                self.wait_until(lambda log=log: "listening" in log.read_text(encoding="utf-8"), "iperf3 listens")
            yield
        finally:
            for record in records:
                processes.kill_group(record)

    def start_iperf(self, vip: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            client_argv(self.testbed, [
                need_command("iperf3"), "--client", vip, "--port", str(topology.IPERF_PORT), "--json", "--parallel",
                str(_IPERF_STREAMS), "--time", str(_IPERF_DURATION_S), "--bitrate", _IPERF_BITS_PER_STREAM]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_iperf3_survives(self) -> None:
        """Its control connection and its streams reach b1 alone, and then have to stay there."""
        members = members_of(self.testbed.backends())
        with self.config_restored(), self.iperf_servers(), contextlib.ExitStack() as clients:
            self.appliance.reload(members[:1])
            self.appliance.wait_for_states({"b1": "up"})
            running = [clients.enter_context(self.start_iperf(vip)) for _, vip in FAMILIES]
            clients.callback(lambda: [one.kill() for one in running])
            opened = len(running) * (1 + _IPERF_STREAMS)
            self.wait_until(lambda: self.iperf_connections() >= opened, "iperf3's connections")
            self.appliance.reload(members)
            self.appliance.wait_for_states(self.all_up())
            for engine in _ENGINES:
                self.switch_to(engine)
                self.assert_requests_are_answered(_PROGRESS)
            for client in running:
                self.assertIsNone(client.poll(), "iperf3 ended before the last switch")
            for client in running:
                output, errors = client.communicate(timeout=4 * _IPERF_DURATION_S)
                self.assertEqual(client.returncode, 0, errors + output[-2000:])
                self.assert_streams_end_alive(json.loads(output))

    def iperf_connections(self) -> int:
        listed = self.appliance.query("connections", "--service", "iperf")["connections"]
        return sum(1 for one in listed if one["state"] == "established")

    def assert_streams_end_alive(self, report: dict) -> None:
        self.assertEqual(len(report["end"]["streams"]), _IPERF_STREAMS)
        for stream in report["end"]["streams"]:
            self.assertEqual(stream["receiver"]["bytes"], stream["sender"]["bytes"])
        for stream in report["intervals"][-2]["streams"]:
            self.assertGreater(stream["bytes"], 0)
