"""From DPDK to XDP and back, under traffic: one engine hands its connections to the other."""

import dataclasses

from changer import Changer
from downloads import curl_downloads, paced_downloads
from harness import SPARING, VIP_URLS, BalancedTestbed
from iperf import iperfs, servers_in_b1
from testbed import dataplane_client, topology
from testbed.builder import BIG_FILE_BYTES
from testbed.configuration import members_of
from testbed.load import Load, http_targets
from udp_flows import UdpFlows

_HELD = 200
_UDP_FLOWS = 4  # over each family
_PROGRESS = 300  # requests on new connections
_CHANGES = 10
_ENGINES = ("xdp", "dpdk")
_DURATION_S = 40  # several times what the test takes


class EngineSwitch(BalancedTestbed):
    engines = ("dpdk",)

    def switch_to(self, engine: str) -> None:
        self.appliance.stop_dataplane()
        self.appliance.start_dataplane(dataclasses.replace(self.options, engine=engine))
        self.assertEqual(dataplane_client.hello(self.appliance.control_socket)["engine"], engine)
        self.assertEqual(self.appliance.xdp_modes(), ["native"])  # of net_af_xdp, too

    def test_connections_and_downloads_survive(self) -> None:
        targets = http_targets() + http_targets(topology.HTTP_LEAST_CONNECTION_PORT)
        with self.held_against_the_hash(_HELD, targets) as held, \
                Load(self.testbed, "requests", 0, options=SPARING) as load:
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

    def test_real_traffic_survives_changes_kills_and_switches(self) -> None:
        """curl, nginx and iperf3, TCP and UDP, over both families. What iperf3 and curl open reaches b1 alone, and then
        has to stay there."""
        members = members_of(self.testbed.backends())
        flows = UdpFlows(self, _UDP_FLOWS)
        with self.config_restored(), servers_in_b1(self):
            self.appliance.reload(members[:1])
            self.appliance.wait_for_states({"b1": "up"})
            with iperfs(self, _DURATION_S) as iperf, curl_downloads(self, _DURATION_S) as curls, \
                    self.held_against_the_hash(_HELD, beside=flows), \
                    Load(self.testbed, "requests", 0, options=SPARING) as load:
                with Changer(self) as changer:
                    for step in (lambda: self.switch_to("xdp"), self.appliance.kill_dataplane, self.start_xdp,
                                 lambda: self.switch_to("dpdk"), self.kill_and_start_dpdk):
                        step()
                        self.everything_goes_on(load, flows, changer)
                changer.assert_all_accepted()
                iperf.assert_running()
                curls.assert_running()
                iperf.assert_end_well()
                curls.assert_arrive()
                load.stop()
        self.assertEqual(load.failures, [])
        flows.assert_kept_their_backends()
        self.assert_no_checksum_errors()
        self.assertEqual(self.appliance.pins(), [])

    def start_xdp(self) -> None:
        self.appliance.start_dataplane(dataclasses.replace(self.options, engine="xdp"))

    def kill_and_start_dpdk(self) -> None:
        self.appliance.kill_dataplane()
        self.appliance.start_dataplane(self.options)

    def everything_goes_on(self, load: Load, flows: UdpFlows, changer: Changer) -> None:
        """New connections, curl's too, UDP flows, and changes, which are in force if there is a dataplane."""
        if self.appliance.is_running():
            changer.wait_for_snapshots(_CHANGES)
        else:
            self.assertEqual(self.appliance.xdp_modes(), ["native"])
            changer.wait_for_changes(_CHANGES)
        load.wait_until_done(load.done + _PROGRESS)
        flows.wait_until_answered()
        for url in VIP_URLS:
            self.assertIn(self.curl(f"{url}/").strip(), self.all_up())
