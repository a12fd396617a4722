"""Clients by one interface, backends by another: packets leave by the port that their next hop is at."""

import json

from harness import FAMILIES, VIP_URLS, BalancedTestbed
from testbed.commands import run
from testbed.load import Load


class TwoSegments(BalancedTestbed):
    segments = 2

    def sent(self, fabric_port: str) -> int:
        """Frames that the fabric has got of the balancer's interface, by the kernel's own count."""
        shown = json.loads(run(["ip", "-n", self.testbed.network.fabric, "-s", "-j", "link", "show", fabric_port]))
        return shown[0]["stats64"]["rx"]["packets"]

    def test_requests_reach_every_backend_by_the_second_interface(self) -> None:
        before = self.sent("balancer-0"), self.sent("balancer-1")
        forwarded = self.appliance.counters().transmitted_packets
        with Load(self.testbed, "requests", 800) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        for target, counts in result.by_target.items():
            self.assertEqual(set(counts), set(self.all_up()), target)
        forwarded = self.appliance.counters().transmitted_packets - forwarded
        self.assertGreater(forwarded, 3 * 800)
        self.assertGreaterEqual(self.sent("balancer-1") - before[1], forwarded)
        self.assertLess(self.sent("balancer-0") - before[0], 50)  # ARP and the like, of the kernel
        self.assert_no_checksum_errors()

    def test_downloads_and_uploads_arrive_whole(self) -> None:
        for url in VIP_URLS:
            self.assert_big_file_arrives(url)
        for family, vip in FAMILIES:
            self.assert_upload_arrives(family, vip)
        self.assert_no_checksum_errors()

    def test_every_packet_of_either_port_has_one_verdict(self) -> None:
        def equal() -> bool:
            counters = self.appliance.counters()
            return counters.sum_of_verdicts() == counters.received_packets > 0

        self.assert_requests_are_answered(200)
        self.wait_until(equal, "as many verdicts as received packets")

    def test_connections_survive_a_restart(self) -> None:
        with self.held_against_the_hash(100):
            self.appliance.stop_dataplane()
            self.appliance.start_dataplane(self.options)
            self.assert_requests_are_answered(200)
