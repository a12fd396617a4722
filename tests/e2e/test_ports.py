"""The same traffic through other ports: several queues and workers, net_af_packet, huge pages, generic XDP."""

from harness import VIP_URLS, BalancedTestbed
from testbed import topology
from testbed.appliance import DataplaneOptions
from testbed.load import Load, http_targets

_HELD = 200


class PortTests:
    """What every kind of port must do."""

    def test_requests_over_both_families(self) -> None:
        assert isinstance(self, BalancedTestbed)
        with Load(self.testbed, "requests", 600) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        self.assertEqual(set(result.by_backend()), set(self.all_up()))
        self.assert_no_checksum_errors()

    def test_download_arrives_whole(self) -> None:
        assert isinstance(self, BalancedTestbed)
        for url in VIP_URLS:
            self.assert_big_file_arrives(url)

    def test_every_packet_has_one_verdict(self) -> None:
        assert isinstance(self, BalancedTestbed)

        def equal() -> bool:
            counters = self.appliance.counters()
            return counters.sum_of_verdicts() == counters.received_packets > 0

        self.wait_until(equal, "as many verdicts as received packets")


class TwoQueuesTwoWorkers(PortTests, BalancedTestbed):
    engines = ("dpdk",)
    queues = 2
    options = DataplaneOptions(workers=2)

    def restart_with(self, options: DataplaneOptions) -> None:
        self.appliance.stop_dataplane()
        self.appliance.start_dataplane(options)
        self.assert_requests_are_answered(200)

    def test_connections_survive_another_number_of_workers(self) -> None:
        """Found in the tables of workers that are no more, since their slots have moved meanwhile and
        least-connection has no slots to speak of."""
        targets = http_targets() + http_targets(topology.HTTP_LEAST_CONNECTION_PORT)
        with self.held_against_the_hash(_HELD, targets):
            self.restart_with(DataplaneOptions(workers=1))
            self.wait_until(lambda: self.appliance.counters().verdicts["forward_adopted"] > 0, "adoptions")
            self.restart_with(self.options)


class TwoQueues(PortTests, BalancedTestbed):
    """The kernel runs the program of each queue on another CPU."""

    engines = ("xdp",)
    queues = 2

    def test_status_says_native_and_why(self) -> None:
        self.assertEqual(self.appliance.xdp_modes(), ["native"])
        status = self.appliance.must("status")
        self.assertIn("engine xdp", status)
        self.assertIn("mode: native: the driver runs XDP programs", status)


class Generic(PortTests, BalancedTestbed):
    """For drivers without XDP: what the kernel has received already runs through the program."""

    engines = ("xdp",)
    options = DataplaneOptions(xdp_mode="generic")

    def test_status_says_generic(self) -> None:
        self.assertEqual(self.appliance.xdp_modes(), ["generic"])
        self.assertIn("mode: generic", self.appliance.must("status"))


class AfPacket(PortTests, BalancedTestbed):
    engines = ("dpdk",)
    options = DataplaneOptions(device="af_packet")


class HugePages(PortTests, BalancedTestbed):
    engines = ("dpdk",)
    options = DataplaneOptions(huge_pages="on")
    huge_pages = 256  # of 2 MB
