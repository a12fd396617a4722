"""The XDP engine forwards without its daemon: killed, stopped, detached and started under traffic."""

import contextlib
import socket
from collections.abc import Iterator

from changer import Changer
from downloads import PacedDownloads, paced_downloads
from harness import FAMILIES, SPARING, VIP_URLS, BalancedTestbed, WireOffset
from testbed import topology
from testbed.builder import BIG_FILE_BYTES
from testbed.commands import socket_in
from testbed.load import Load
from testbed.mounts import mounts_below
from udp_flows import UdpFlows

_HELD = 100
_UDP_FLOWS = 4  # over each family
_PROGRESS = 300  # requests on new connections
_ROUNDS = 3
_CHANGES_PER_ROUND = 15
_REFUSAL_S = 2.0


class XdpLife(BalancedTestbed):
    engines = ("xdp",)

    def setUp(self) -> None:
        self.offset = WireOffset(0, 0)

    @contextlib.contextmanager
    def traffic(self) -> Iterator[tuple[Load, PacedDownloads]]:
        """Held connections of which the hash alone would break half, downloads, and new connections all the while.
        None may fail; and no packet may be lost, or be in no verdict, or in two."""
        self.offset = self.settled_offset()
        drops, repairs = self.drops(), self.client_repairs()
        flows = UdpFlows(self, _UDP_FLOWS)
        with self.held_against_the_hash(_HELD, beside=flows), \
                Load(self.testbed, "requests", 0, options=SPARING) as load:
            with paced_downloads(self, 1) as downloads:
                yield load, downloads
            flows.wait_until_answered()
            load.stop()
        self.assertEqual(load.failures, [])
        flows.assert_kept_their_backends()
        self.assertEqual(flows.lost, 0)
        self.wait_until_accounted(self.offset)
        self.assertEqual(self.drops(), drops)
        self.assertLessEqual(self.client_repairs(), repairs)
        self.assert_no_checksum_errors()

    def drops(self) -> dict[str, int]:
        verdicts = self.appliance.counters().verdicts
        return {name: count for name, count in verdicts.items() if name.startswith("drop_")}

    def goes_on(self, load: Load, downloads: PacedDownloads, share: float) -> None:
        """New connections are answered, by curl too, and the downloads get on to a share of their file."""
        downloads.allow(int(share * BIG_FILE_BYTES))
        load.wait_until_done(load.done + _PROGRESS)
        for url in VIP_URLS:
            self.assertIn(self.curl(f"{url}/").strip(), self.all_up())
        self.wait_until(lambda: downloads.reached(int(share * BIG_FILE_BYTES)), "the downloads get on")

    def assert_forwards_alone(self, programs: list[int]) -> None:
        self.assertEqual(self.appliance.xdp_programs(), programs)
        self.assertEqual(self.appliance.pins(),
                         ["connections", "counters", "link-front", f"tail-calls-{programs[0]}"])

    def test_killed_daemon_leaves_forwarding_and_the_next_takes_over(self) -> None:
        programs = self.appliance.xdp_programs()
        self.assertEqual(len(programs), 1)
        with self.traffic() as (load, downloads):
            self.goes_on(load, downloads, 0.2)
            self.appliance.kill_dataplane()
            self.goes_on(load, downloads, 0.5)
            self.assert_forwards_alone(programs)
            self.appliance.start_dataplane(self.options)
            self.goes_on(load, downloads, 0.8)
        self.assertEqual(len(self.appliance.xdp_programs()), 1)
        self.assertNotEqual(self.appliance.xdp_programs(), programs)
        self.assertEqual(self.appliance.xdp_modes(), ["native"])
        self.assertIn("mode: native: as the process before this one had attached it", self.appliance.must("status"))

    def test_stopped_daemon_leaves_forwarding_and_the_next_takes_over(self) -> None:
        programs = self.appliance.xdp_programs()
        with self.traffic() as (load, downloads):
            self.appliance.stop_dataplane()
            self.goes_on(load, downloads, 0.5)
            self.assert_forwards_alone(programs)
            self.appliance.start_dataplane(self.options)
            self.goes_on(load, downloads, 0.8)

    def test_detaching_ends_forwarding_and_keeps_the_connections(self) -> None:
        with self.held_against_the_hash(_HELD):
            self.appliance.stop_dataplane()
            self.appliance.detach()
            self.assertEqual(self.appliance.xdp_programs(), [])
            self.assertEqual(self.appliance.pins(), [])
            self.assertEqual(mounts_below(self.testbed.directory), [])
            for family, vip in FAMILIES:
                with socket_in(self.testbed.network.client, family, socket.SOCK_STREAM) as connection:
                    connection.settimeout(_REFUSAL_S)
                    with self.assertRaises(TimeoutError):
                        connection.connect((vip, topology.HTTP_PORT))
            self.appliance.start_dataplane(self.options)
            self.assert_requests_are_answered(200)

    def test_restarts_while_snapshots_change_ten_times_a_second(self) -> None:
        with self.traffic() as (load, downloads), Changer(self) as changer:
            for number in range(1, _ROUNDS + 1):
                changer.wait_for_snapshots(_CHANGES_PER_ROUND)
                self.appliance.kill_dataplane()
                changer.wait_for_changes(3)
                self.goes_on(load, downloads, number / (_ROUNDS + 1))
                self.appliance.start_dataplane(self.options)
        changer.assert_all_accepted()
        self.appliance.wait_for_states(self.all_up())
