"""`--engine auto`: DPDK where it is at home, else XDP; and why."""

from harness import BalancedTestbed
from testbed import dataplane_client


class AutoWithoutHugePages(BalancedTestbed):
    engines = ("auto",)

    def test_becomes_xdp_and_says_why(self) -> None:
        self.assertEqual(dataplane_client.hello(self.appliance.control_socket)["engine"], "xdp")
        self.assertRegex(self.appliance.choice_of_engine(), "^xdp: .*huge pages")
        self.assertEqual(len(self.appliance.xdp_programs()), 1)
        self.assert_requests_are_answered(200)


class AutoWithHugePages(BalancedTestbed):
    engines = ("auto",)
    huge_pages = 256  # of 2 MB

    def test_becomes_dpdk_and_says_why(self) -> None:
        self.assertEqual(dataplane_client.hello(self.appliance.control_socket)["engine"], "dpdk")
        self.assertRegex(self.appliance.choice_of_engine(), "^dpdk: .*huge pages")
        self.assert_requests_are_answered(200)
