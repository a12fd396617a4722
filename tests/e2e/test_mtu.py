"""An MTU of 1500 everywhere: encapsulated, a full packet of the client's does not fit."""

from harness import FAMILIES, VIP_URLS, BalancedTestbed
from testbed import topology
from testbed.commands import run
from testbed.configuration import members_of


class NoRoomForAnOuterHeader(BalancedTestbed):
    fabric_mtu = topology.CLIENT_MTU

    def forget_path_mtu(self) -> None:
        """What the client has learnt of the way to the VIPs."""
        for family in ("-4", "-6"):
            run(["ip", "-n", self.testbed.network.client, family, "route", "flush", "cache"])

    def too_big(self) -> int:
        return self.appliance.counters().verdicts["reply_too_big"]

    def test_uploads_arrive_whole_through_every_pairing_of_headers(self) -> None:
        """The client's packets are as large as its own MTU, until the balancer says how much fits."""
        with self.config_restored():
            for member in members_of(self.testbed.backends())[:2]:
                # Alone in the pool: the one is reached over IPv4, the other over IPv6.
                self.appliance.reload([member])
                self.appliance.wait_for_states({member.backend.name: "up"})
                for family, vip in FAMILIES:
                    with self.subTest(inner=family.name, outer=member.address):
                        self.forget_path_mtu()
                        before = self.too_big()
                        self.assertEqual(self.assert_upload_arrives(family, vip), member.backend.name)
                        self.assertGreater(self.too_big(), before)
        self.assertEqual(self.appliance.counters().verdicts["drop_too_big"], 0)
        self.assert_no_checksum_errors()

    def test_downloads_arrive_whole(self) -> None:
        for url in VIP_URLS:
            self.assert_big_file_arrives(url)
        self.assert_no_checksum_errors()
